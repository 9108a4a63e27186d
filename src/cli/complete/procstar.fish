# Completion of procstar for fish.

function __procstar_candidates
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :dirs
                __fish_complete_directories (commandline -ct)
            case :commands
                __fish_complete_command
            case '*'
                echo $line
        end
    end
end

complete -c procstar -f -a '(__procstar_candidates)'
