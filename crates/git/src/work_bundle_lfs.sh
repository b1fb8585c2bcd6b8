# What a hand-over does about Git LFS: functions of `work_bundle.sh`, which calls them.

# Writes the pointer of a file of LFS, as `git lfs` does, so that a file that is as its pointer says is no change. The
# object is kept for the hand-over.
FOUNDRY_CLEAN='
file=$(mktemp "$own/clean.XXXXXX") && cat >"$file" || exit 1
if [ ! -s "$file" ] || { [ "$(wc -c <"$file")" -lt 1024 ] &&
    head -n 1 "$file" | grep -qxF "version https://git-lfs.github.com/spec/v1"; }; then
    cat "$file" && rm -f "$file"
    exit
fi
hash=$(sha256sum <"$file") && mkdir -p "$own/lfs" || exit 1
hash=${hash%% *}
printf "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" "$hash" "$(wc -c <"$file")"
mv -f "$file" "$own/lfs/$hash"'
export FOUNDRY_CLEAN

# A file that the base has without LFS, although its attributes say LFS, is no change while it stays as it is.
as_stored() {
    [ -d "$own/lfs" ] || return 0
    g diff-tree -r --raw --no-renames --diff-filter=M "$parent" "$tree" | awk -F '\t' '
        { split($1, of, " "); if (of[1] == ":" of[2] && $2 !~ /^"/) print of[2], of[3], of[4], $2 }' >"$own/modified"
    cut -d ' ' -f 3 "$own/modified" | g cat-file --batch-check='%(objectsize)' | paste -d ' ' - "$own/modified" |
        awk '$1 < 1024' | head -n 1000 >"$own/cleaned"
    while read -r size mode was is path; do
        g cat-file blob "$was" 2>/dev/null | cmp -s - "./$path" || continue
        g update-index --cacheinfo "$mode,$was,$path" || return 1
    done <"$own/cleaned"
    [ ! -s "$own/cleaned" ] || tree=$(g write-tree)
}

# Where the sandbox has an object.
lfs_file() {
    if [ -f "$own/lfs/$1" ]; then printf '%s\n' "$own/lfs/$1"; return; fi
    rest=${1#??}
    held=$common/lfs/objects/${1%"$rest"}/$(printf %.2s "$rest")/$1
    [ ! -f "$held" ] || printf '%s\n' "$held"
}

# Objects of LFS that only the sandbox has: of pointers that are new since the base. What a branch of the remote has was
# fetched with it. They go before the bundle, as far as there is room for them; the others are named.
lfs_objects() {
    [ -d "$common/lfs/objects" ] || [ -d "$own/lfs" ] || return 0
    if [ -n "$lost" ]; then g ls-tree -r "$tree" | awk '{ print $3 }'
    else
        {
            printf '%s\n^%s\n' "$parent" "$FOUNDRY_BASE"
            of_agent for-each-ref --format='^%(objectname)' refs/remotes/
        } | g rev-list --objects --no-object-names --stdin 2>/dev/null
        g diff-tree -r --no-renames --diff-filter=AMT "$parent" "$tree" | awk '{ print $4 }'
    fi | sort -u | g cat-file --batch-check='%(objecttype) %(objectsize) %(objectname)' |
        awk '$1 == "blob" && $2 >= 120 && $2 < 1024 { print $3 }' | g cat-file --batch 2>/dev/null | awk '
            /^[0-9a-f]+ blob [0-9]+$/ { id = $1; is = 0; object = ""; next }
            $0 == "version https://git-lfs.github.com/spec/v1" { is = 1; next }
            is && /^oid sha256:[0-9a-f]+$/ && length($2) == 71 { object = substr($2, 8) }
            is && object != "" && /^size [0-9]+$/ { print id, object, $2; is = 0 }' >"$own/pointers"
    room=$((FOUNDRY_MAX_LFS - $(wc -c <"$own/bundle")))
    : >"$own/lfs.list"; : >"$own/lfs.data"; : >"$own/lfs.left"
    while read -r id object size; do
        held=$(lfs_file "$object")
        [ -n "$held" ] && [ "$(($(wc -c <"$held")))" = "$size" ] || continue
        if [ "$size" -gt "$room" ]; then printf '%s\n' "$id" >>"$own/lfs.left"; continue; fi
        head -c "$size" "$held" >>"$own/lfs.data" || return 1
        printf '%s %s\n' "$object" "$size" >>"$own/lfs.list"
        room=$((room - size))
    done <"$own/pointers"
    if [ -s "$own/lfs.left" ]; then
        first=$(g ls-tree -r -z "$tree" | lines | grep -F -f "$own/lfs.left" | head -n 1 | cut -f 2)
        note lfs_objects $(($(wc -l <"$own/lfs.left"))) '' "$first" ''
    fi
    [ -s "$own/lfs.list" ] || return 0
    # A file that became shorter just now makes all of it useless.
    [ "$(awk '{ all += $2 } END { printf "%d", all }' "$own/lfs.list")" = "$(($(wc -c <"$own/lfs.data")))" ] || return 1
    { printf '# foundry lfs objects\n' && cat "$own/lfs.list" && printf '\n' && cat "$own/lfs.data" "$own/bundle"; } \
        >"$own/whole" && mv -f "$own/whole" "$own/bundle"
}

# Files of Git LFS that are pointers in the tree: nothing fetches what they stand for unless the agent does.
lfs_pointers() {
    g ls-files -z >"$own/files.z"
    lines <"$own/files.z" | grep -E '(^|/)\.gitattributes$' | head -n 500 | sed 's|^|./|' | unlines |
        xargs -0 grep -l -s -F 'filter=lfs' >"$own/attributes" 2>/dev/null
    [ -s "$own/attributes" ] || return 0
    g check-attr -z --stdin filter <"$own/files.z" 2>/dev/null | lines |
        awk 'NR % 3 == 1 { path = $0 } NR % 3 == 0 && $0 == "lfs" { print "./" path }' | unlines |
        xargs -0 sh -c '[ $# = 0 ] || find "$@" -maxdepth 0 -type f -size -3 -exec \
            grep -l -F "version https://git-lfs.github.com/spec/v1" {} + 2>/dev/null' sh >"$own/attributes"
    [ ! -s "$own/attributes" ] ||
        note lfs_pointers $(($(wc -l <"$own/attributes"))) '' "$(head -n 1 "$own/attributes" | cut -c 3-)" ''
}

