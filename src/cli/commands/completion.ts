import { BangerError } from '../../core/errors.ts';
import { COMPLETION_SCRIPTS } from '../completion-scripts.ts';
import { defineCommand, oneArgument } from '../command.ts';

export const command = defineCommand({
  description:
    'The script completes commands, flags and the names of VMs, images and kernels; the names are asked from a running daemon.',
  examples: [
    { line: 'source <(banger completion bash)', brief: 'in ~/.bashrc' },
    { line: 'source <(banger completion zsh)', brief: 'in ~/.zshrc, after compinit' },
    { line: 'banger completion fish | source', brief: 'in ~/.config/fish/config.fish' },
  ],
  argument: oneArgument('SHELL', 'bash, zsh or fish', async () => [...COMPLETION_SCRIPTS.keys()]),
  flags: {},
  async run(context, _flags, [shell = '']) {
    const script = COMPLETION_SCRIPTS.get(shell);
    if (script === undefined) {
      throw new BangerError('usage', `there is no completion for "${shell}"`, {
        hint: `it is one of ${[...COMPLETION_SCRIPTS.keys()].join(', ')}`,
      });
    }
    context.stdout.write(script);
  },
});
