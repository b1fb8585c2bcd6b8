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

# Whether any attributes of the tree speak of LFS.
uses_lfs() {
    find . -name .git -prune -o -name .gitattributes -type f -print0 2>/dev/null |
        xargs -0 grep -l -s -F 'filter=lfs' 2>/dev/null | grep -q .
}

# Those of some paths that are of LFS, a line each with `./` in front. Names that the tools print in another way are left to
# the filter.
of_lfs() {
    g check-attr -z --stdin filter 2>/dev/null | lines |
        awk 'NR % 3 == 1 { path = $0 } NR % 3 == 0 && $0 == "lfs" { print "./" path }' | grep -v '[[:cntrl:]\\]' | sort -u
}

# Adds the pointers of all files of LFS that may have changed, with some processes for all of them: the filter costs several
# for each file. Then the index claims that they are unchanged, so that git does not run the filter for them. `cleaned` has
# object, size and path of each.
clean_lfs() {
    rm -rf "$own/lfs.new" && mkdir "$own/lfs.new" && : >"$own/cleaned" && : >"$own/lfs.lines" || return 1
    uses_lfs || return 0
    {
        g -c filter.lfs.clean= diff-files -z --name-only --ignore-submodules=all
        g -c filter.lfs.clean= -c core.excludesFile="$common/info/exclude" ls-files -z -o --exclude-standard
    } | of_lfs | unlines | xargs -0 sh -c '
        for path do
            [ -f "$path" ] && [ -s "$path" ] && [ ! -L "$path" ] && [ -r "$path" ] && printf "%s\000" "$path"
        done; :' sh >"$own/lfs.z"
    [ -s "$own/lfs.z" ] || return 0
    xargs -0 wc -c <"$own/lfs.z" 2>/dev/null | sed -n 's/^ *\([0-9]*  *\.\/\)/\1/p' |
        awk -v large="$own/large.lines" -v most="$FOUNDRY_MAX_LFS" '
            BEGIN { while ((getline line <large) > 0) is_large[line] = 1 }
            { size = $1; sub(/^[0-9]* *\.\//, ""); if (size <= most || !($0 in is_large)) print size " ./" $0 }' >"$own/lfs.sizes"
    # A pointer is what it is.
    awk '$1 < 1024 { sub(/^[0-9]* /, ""); print }' "$own/lfs.sizes" | unlines | xargs -0 sh -c '
        for path do
            IFS= read -r line <"$path" || continue
            [ "$line" != "version https://git-lfs.github.com/spec/v1" ] || printf "%s\n" "$path"
        done' sh 2>/dev/null >"$own/lfs.are"
    awk -v are="$own/lfs.are" '
        BEGIN { while ((getline line <are) > 0) is[line] = 1 }
        { sub(/^[0-9]* /, ""); if (!($0 in is)) print }' "$own/lfs.sizes" | unlines | xargs -0 sha256sum 2>/dev/null |
        awk -v sizes="$own/lfs.sizes" '
            BEGIN { while ((getline line <sizes) > 0) { size = line; sub(/ .*/, "", size); sub(/^[0-9]* /, "", line); of[line] = size } }
            { object = $1; sub(/^[0-9a-f]*  /, ""); print object, of[$0], $0 }' >"$own/cleaned"
    awk -v to="$own/lfs.new/" '{
        file = to NR
        printf "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n", $1, $2 >file
        close(file); print file }' "$own/cleaned" >"$own/lfs.files"
    cat "$own/lfs.are" >>"$own/lfs.files"
    { cut -d ' ' -f 3- "$own/cleaned" && cat "$own/lfs.are"; } >"$own/lfs.lines"
    unlines <"$own/lfs.lines" | xargs -0 sh -c 'for path do [ -x "$path" ] && echo 100755 || echo 100644; done' sh >"$own/lfs.modes"
    g hash-object -w --no-filters --stdin-paths <"$own/lfs.files" | paste -d ' ' "$own/lfs.modes" - >"$own/lfs.ids" &&
        sed -i 's|^\./||' "$own/lfs.lines" && [ "$(grep -c '' "$own/lfs.ids")" = "$(grep -c '' "$own/lfs.lines")" ] &&
        paste "$own/lfs.ids" "$own/lfs.lines" | unlines | g update-index -z --index-info &&
        unlines <"$own/lfs.lines" | g update-index -z --assume-unchanged --stdin
}

# A file that the base has without LFS, although its attributes say LFS, is no change while it stays as it is.
as_stored() {
    [ -s "$own/cleaned" ] || [ -d "$own/lfs" ] || return 0
    g diff-tree -r --raw --no-renames --diff-filter=M "$parent" "$tree" | awk -F '\t' '
        { split($1, of, " "); if (of[1] == ":" of[2] && $2 !~ /^"/) print of[2], of[3], of[4], $2 }' >"$own/modified"
    cut -d ' ' -f 3 "$own/modified" | g cat-file --batch-check='%(objectsize)' | paste -d ' ' - "$own/modified" >"$own/sized"
    # What was a pointer is another one now.
    cut -d ' ' -f 3 "$own/sized" | g cat-file --batch-check='%(objectsize)' | paste -d ' ' - "$own/sized" |
        awk -v cleaned="$own/cleaned" '
            BEGIN { while ((getline line <cleaned) > 0) { size = line; sub(/^[^ ]* /, "", size); path = size; sub(/ .*/, "", size)
                sub(/^[^ ]* \.\//, "", path); of[path] = size } }
            { was = $1; sub(/^[0-9]* /, ""); if ($1 >= 1024) next
              path = $0; for (n = 1; n <= 4; n++) sub(/^[^ ]* /, "", path)
              if (!(path in of) || of[path] == was) print }' | head -n 1000 >"$own/raw"
    while read -r size mode was is path; do
        g cat-file blob "$was" 2>/dev/null | cmp -s - "./$path" || continue
        g update-index --cacheinfo "$mode,$was,$path" || return 1
    done <"$own/raw"
    [ ! -s "$own/raw" ] || tree=$(g write-tree)
}

# Where the sandbox has the objects of `pointers`, in `lfs.held`: object, size and path. Those of the tree come first.
held_lfs() {
    awk -v cleaned="$own/cleaned" '
        BEGIN { while ((getline line <cleaned) > 0) { id = line; sub(/ .*/, "", id); sub(/^[^ ]* [^ ]* /, "", line); path[id] = line } }
        $2 in asked { next }
        { asked[$2] = 1; below = substr($2, 1, 2) "/" substr($2, 3, 2) "/" $2
          print $2, ENVIRON["common"] "/lfs/objects/" below
          print $2, ENVIRON["own"] "/lfs/" $2
          if ($2 in path) print $2, path[$2] }' "$own/pointers" >"$own/lfs.places"
    # What is not there is no line.
    cut -d ' ' -f 2- "$own/lfs.places" | unlines | xargs -0 wc -c /dev/null 2>/dev/null | sed 's/^ *//' >"$own/lfs.wc"
    awk -v wc="$own/lfs.wc" '
        BEGIN { while ((getline line <wc) > 0) { bytes = line; sub(/ .*/, "", bytes); sub(/^[0-9]* */, "", line); size[line] = bytes } }
        { id = $1; sub(/^[^ ]* /, ""); if ($0 in size) print id, size[$0], $0 }' "$own/lfs.places" >"$own/lfs.held"
}

# For a later run without the base: its blobs, whose objects need not be sent.
blobs_of_base() {
    ! uses_lfs || g ls-tree -r "$FOUNDRY_BASE" | awk '{ print $3 }' | sort -u >"${FOUNDRY_BUNDLE%.bundle}.blobs"
}

# Objects of LFS that only the sandbox has: of pointers that are new since the base. What a branch of the remote has was
# fetched with it. They go before the bundle, as far as there is room for them; the others are named.
lfs_objects() {
    [ -d "$common/lfs/objects" ] || [ -d "$own/lfs" ] || [ -s "$own/cleaned" ] || return 0
    if [ -n "$lost" ]; then
        : >>"${FOUNDRY_BUNDLE%.bundle}.blobs"
        g ls-tree -r "$tree" | awk '{ print $3 }' | sort -u | comm -23 - "${FOUNDRY_BUNDLE%.bundle}.blobs"
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
    : >"$own/lfs.list"; : >"$own/lfs.data"; : >"$own/lfs.left"; : >"$own/lfs.from"
    held_lfs && awk -v room="$room" -v own="$own" '
        BEGIN { while ((getline line <(own "/lfs.held")) > 0) { split(line, of, " "); size[of[1]] = of[2]
            id = of[1]; sub(/^[^ ]* [^ ]* /, "", line); path[id] = line } }
        !($2 in path) || $2 in seen { next }
        # One of the tree that has changed just now. An import takes a list of this length.
        size[$2] != $3 { if (path[$2] ~ /^\.\//) print $1 >(own "/lfs.left"); next }
        $3 > room || sent >= 10000 { print $1 >(own "/lfs.left"); next }
        { seen[$2] = 1; sent++; room -= $3; print $2, $3 >(own "/lfs.list"); print path[$2] >(own "/lfs.from") }' "$own/pointers" || return 1
    unlines <"$own/lfs.from" | xargs -0 cat /dev/null >>"$own/lfs.data" || return 1
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

