# SPDX-License-Identifier: Apache-2.0
# bash completion of platter(1) and platterd(8): source it, or put it where
# bash-completion looks.

_platter()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local commands="info map members partitions snapshots check checksum manifest read convert
        compare index bench plugins mirror token sign"
    local options="--member --partition --snapshot --vmstate --layers -f --secret-file
        --secret --offset --length --context --algorithm --block-size --format --groups --leaves -o -O --resume --verify
        -s --strict --show --export --import --index-format
        --follow --bandwidth --priority --schedule --fetch --signed --no-trace --wait --watch
        --trace --record --replay --pattern --size --count --time --threads
        --headers --ca --certificate --signing-key --expires --route --gateway --json --output --plugin-path --state --cache-size --force --quiet
        --verbose --help --version"
    local word i

    COMPREPLY=()
    case $prev in
    --output) mapfile -t COMPREPLY < <(compgen -W "json human" -- "$cur") && return ;;
    --algorithm) mapfile -t COMPREPLY < <(compgen -W "sha256 sha512" -- "$cur") && return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W "bmap rauc zsync caibx" -- "$cur") && return ;;
    --index-format) mapfile -t COMPREPLY < <(compgen -W "platter gztool indexed_gzip" -- "$cur") && return ;;
    --pattern) mapfile -t COMPREPLY < <(compgen -W "sequential random strided" -- "$cur") && return ;;
    --plugin-path | --state) mapfile -t COMPREPLY < <(compgen -d -- "$cur") && return ;;
    --export | --import | --trace | -o | --headers | --ca | --certificate) mapfile -t COMPREPLY < <(compgen -f -- "$cur") && return ;;
    -f) mapfile -t COMPREPLY < <(compgen -W "raw qcow2 vmdk" -- "$cur") && return ;;
    --route) mapfile -t COMPREPLY < <(compgen -W "disk raw info members extents partitions snapshots check checksum index manifest trace prefetch" -- "$cur") && return ;;
    --fetch) mapfile -t COMPREPLY < <(compgen -W "auto blocks ranges" -- "$cur") && return ;;
    mirror) mapfile -t COMPREPLY < <(compgen -W "add list status wait pause resume change remove" -- "$cur") && return ;;
    -O) mapfile -t COMPREPLY < <(compgen -W "raw" -- "$cur") && return ;;
    --offset | --length | --member | --partition | --layers | --cache-size | --snapshot | \
        --context | --secret | --secret-file | --gateway | --block-size | --size | \
        --follow | --bandwidth | --priority | --schedule | \
        --count | --time | --threads | --signing-key | --expires) return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ $word == plugins || $word == token || $word == mirror ]] && return
        if [[ " ${commands//$'\n'/ } " == *" $word "* ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
        fi
    done
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
}

_platterd()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local options="--origin --allow-address --origin-headers --origin-ca --origin-certificate --listen --tls-certificate --tls-key --tls-client-ca --manifest-key --sibling
        --access --image --secret --cors --config --check-config
        --mirror --seed --output --mirror-key --advertise --store-size --store-compression
        --mirror-bandwidth --scrub-rate
        --state --state-dir --plugin-path --cache-size --disk-cache-size --readahead
        --deadline --workers
        --max-waiting-per-image --max-open --max-connections --max-ranges
        --max-connections-per-client --max-waiting-per-client --client-memory
        --client-timeout --min-rate
        --revalidate --sidecars --drain --log-level --sandbox --pid-file --help --version"

    COMPREPLY=()
    case $prev in
    --config | --pid-file | --output | --mirror-key | --tls-certificate | --tls-key | --tls-client-ca | --manifest-key) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    --state | --state-dir | --plugin-path) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$cur") ;;
    --store-compression) mapfile -t COMPREPLY < <(compgen -W "none zstd" -- "$cur") ;;
    --origin | --origin-headers | --origin-ca | --origin-certificate | --allow-address | --access | --listen | --image | --secret | --cors | --sibling | --cache-size | --disk-cache-size | --readahead | \
        --deadline | --workers | --max-waiting-per-image | --max-open | --max-connections | \
        --max-connections-per-client | --max-waiting-per-client | --client-memory | \
        --client-timeout | --min-rate | \
        --mirror | --seed | --advertise | --store-size | --mirror-bandwidth | --scrub-rate | \
        --max-ranges | --revalidate | --sidecars | --drain) ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
    esac
}

complete -F _platter platter
complete -F _platterd platterd
