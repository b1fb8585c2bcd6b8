# What a hand-over says of Git LFS: functions of `work_bundle.sh`, which calls them.

# Files of Git LFS that only the sandbox has: of pointers that are new since the base. What a branch of the remote has
# was fetched with it.
lfs_objects() {
    [ -d "$common/lfs/objects" ] || return 0
    g diff-tree -r -z --raw --no-renames --diff-filter=AMT "$FOUNDRY_BASE" "$tree" | lines |
        awk '/^:/ { split($0, of, " "); next } of[2] ~ /^100/ { print of[4], $0 }' >"$own/changed"
    cut -d ' ' -f 1 "$own/changed" | sort -u | g cat-file --batch-check='%(objectname) %(objectsize)' |
        awk '$2 < 1024 { print $1 }' | g cat-file --batch 2>/dev/null | awk '
            /^[0-9a-f]+ blob [0-9]+$/ { id = $1; is = 0; next }
            $0 == "version https://git-lfs.github.com/spec/v1" { is = 1; next }
            is && /^oid sha256:[0-9a-f]+$/ && length($2) == 71 { print id, substr($2, 8); is = 0 }' >"$own/pointers"
    : >"$own/held"
    while read -r id object; do
        rest=${object#??}
        [ ! -f "$common/lfs/objects/${object%"$rest"}/$(printf %.2s "$rest")/$object" ] || printf '%s\n' "$id" >>"$own/held"
    done <"$own/pointers"
    [ -s "$own/held" ] || return 0
    of_agent rev-list --objects --no-object-names --remotes --not "$FOUNDRY_BASE" | grep -Fx -f "$own/held" >"$own/fetched"
    grep -Fvx -f "$own/fetched" "$own/held" >"$own/new" || return 0
    first=$(grep -F -f "$own/new" "$own/changed" | head -n 1 | cut -d ' ' -f 2-)
    note lfs_objects $(($(wc -l <"$own/new"))) '' "$first" ''
}

# Files of Git LFS that are pointers in the tree: nothing fetches what they stand for unless the agent does.
lfs_pointers() {
    g ls-files -z >"$own/files.z"
    lines <"$own/files.z" | grep -E '(^|/)\.gitattributes$' | head -n 500 | sed 's|^|./|' | unlines |
        xargs -0 grep -l -s -F 'filter=lfs' >"$own/lfs" 2>/dev/null
    [ -s "$own/lfs" ] || return 0
    g check-attr -z --stdin filter <"$own/files.z" 2>/dev/null | lines |
        awk 'NR % 3 == 1 { path = $0 } NR % 3 == 0 && $0 == "lfs" { print "./" path }' | unlines |
        xargs -0 sh -c '[ $# = 0 ] || find "$@" -maxdepth 0 -type f -size -3 -exec \
            grep -l -F "version https://git-lfs.github.com/spec/v1" {} + 2>/dev/null' sh >"$own/lfs"
    [ ! -s "$own/lfs" ] || note lfs_pointers $(($(wc -l <"$own/lfs"))) '' "$(head -n 1 "$own/lfs" | cut -c 3-)" ''
}

