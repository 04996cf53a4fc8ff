/** What `banger completion SHELL` prints. Each script asks `banger __complete` at every key press. */

/** Instead of candidates: the shell's own file names. */
export const FILES_LINE = ':files';

const BASH = `# bash completion of banger
_banger() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == ${FILES_LINE} ]]; then
      compopt -o default
    else
      COMPREPLY+=("\${line%%$'\\t'*}")
    fi
  done < <("\${COMP_WORDS[0]}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _banger banger
`;

const ZSH = `#compdef banger
_banger() {
  local line
  local -a candidates
  for line in "\${(@f)$("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    if [[ $line == ${FILES_LINE} ]]; then
      _files
      return
    elif [[ -n $line ]]; then
      candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
    fi
  done
  _describe banger candidates
}
compdef _banger banger
`;

const FISH = `# fish completion of banger
function __banger_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null)
        if test "$line" = '${FILES_LINE}'
            __fish_complete_path "$current"
        else
            echo $line
        end
    end
end
complete -c banger -f -a '(__banger_complete)'
`;

export const COMPLETION_SCRIPTS: ReadonlyMap<string, string> = new Map([
  ['bash', BASH],
  ['zsh', ZSH],
  ['fish', FISH],
]);
