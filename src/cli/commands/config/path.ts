import { defineCommand } from '../../command.ts';

export const command = defineCommand({
  description: 'Prints the path, whether there is a file or not.',
  examples: [{ line: 'banger config path', brief: 'what to open in an editor' }],
  flags: {},
  async run(context) {
    context.stdout.write(`${context.ports.configPath()}\n`);
  },
});
