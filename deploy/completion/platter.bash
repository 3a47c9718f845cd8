# SPDX-License-Identifier: Apache-2.0
# bash completion of platter(1) and platterd(8): source it, or put it where
# bash-completion looks.

_platter()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local options="--json --output --offset --length --member --layers -f
        --snapshot --vmstate --context --secret --secret-file
        --plugin-path --state --cache-size --force --verbose --help --version"
    local word i

    COMPREPLY=()
    case $prev in
    --output) mapfile -t COMPREPLY < <(compgen -W "json human" -- "$cur") && return ;;
    --plugin-path | --state) mapfile -t COMPREPLY < <(compgen -d -- "$cur") && return ;;
    -f) mapfile -t COMPREPLY < <(compgen -W "raw qcow2" -- "$cur") && return ;;
    --offset | --length | --member | --layers | --cache-size | --snapshot | \
        --context | --secret | --secret-file) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        info | read | map | members | snapshots | check)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        plugins) return ;;
        esac
    done
    mapfile -t COMPREPLY < <(compgen -W "info read map members snapshots check plugins" -- "$cur")
}

_platterd()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local options="--origin --listen --secret --config --state --plugin-path --cache-size
        --deadline --workers --max-waiting-per-image --max-open
        --max-connections --revalidate --drain --log-level --pid-file --help
        --version"

    COMPREPLY=()
    case $prev in
    --config | --pid-file) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    --state | --plugin-path) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$cur") ;;
    --origin | --listen | --cache-size | --deadline | --workers | \
        --max-waiting-per-image | --max-open | --max-connections | \
        --revalidate | --drain) ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
    esac
}

complete -F _platter platter
complete -F _platterd platterd
