# What a hand-over leaves out for its size, as functions of `work_bundle.sh`, which calls them.

# Directories with very many new files; of nested ones the innermost that have nearly all. With more new files than an
# import takes, those of the largest are left out until the rest fits. No file of the base is touched, and a
# directory that the base has is left out in parts only.
many_files() {
    round=1
    while :; do
        g diff-tree -r -z --diff-filter=A --name-only "$FOUNDRY_BASE" "$tree" >"$own/added.z" || return 1
        lines <"$own/added.z" >"$own/added"
        over=$(($(wc -l <"$own/added") - FOUNDRY_MAX_FILES))
        : >"$own/kept"
        [ "$over" -le 0 ] || g ls-tree -r -d -z --name-only "$FOUNDRY_BASE" | lines >"$own/kept"
        # In a second round whole new directories go.
        crowded "$over" "$round" >"$own/crowded" || return 1
        [ "$over" -gt 0 ] || break
        [ "$round" -le 2 ] || return 1
        left_out | unlines | g update-index -z --force-remove --stdin || return 1
        tree=$(g write-tree) || return 1
        note_crowded left
        round=$((round + 1))
    done
    note_crowded ''
}

# Lines of `left|full count below|in path`: whole directories first, then files directly in directories of the base.
crowded() {
    awk -F / -v kept="$own/kept" -v over="$1" -v round="$2" '
        BEGIN { while ((getline line <kept) > 0) base[line] = 1; base[""] = 1 }
        { path = ""
          for (i = 1; i < NF && i <= 30; i++) {
              above = path; path = i == 1 ? $i : path "/" $i
              if (!(path in files)) { sibling[path] = first[above]; first[above] = path }
              files[path]++
          }
          direct[path]++ }
        function choose(dir,    below, heavy) {
            for (below = first[dir]; below != ""; below = sibling[below]) if (files[below] >= 1000) heavy += files[below]
            if (!(dir in base) && (over > 0 && round > 1 || heavy < 0.9 * files[dir])) { print 1, files[dir], "below", dir; return }
            for (below = first[dir]; below != ""; below = sibling[below])
                if (dir in base || files[below] >= 1000) choose(below)
            if (dir in base && direct[dir] > 0) print 0, direct[dir], "in", dir
        }
        END { choose("") }' "$own/added" | sort -k 1,1nr -k 2,2nr |
        awk -v over="$over" '{
            count = $2; state = over > 0 ? "left" : "full"; over -= count
            if (state == "left" || count >= 1000 && $1) { sub(/^[01] /, ""); print state, $0 } }'
}
# The new files that are below, or in, what is left out.
left_out() {
    awk -F / -v crowded="$own/crowded" '
        BEGIN {
            while ((getline line <crowded) > 0) {
                split(line, word, " "); dir = line; sub(/^[a-z]+ [0-9]+ [a-z]+ /, "", dir)
                if (word[1] == "left" && word[3] == "below") whole[dir] = 1
                if (word[1] == "left" && word[3] == "in") parts[dir] = 1
            }
        }
        { path = ""; gone = 0
          for (i = 1; i < NF && i <= 30 && !gone; i++) { path = i == 1 ? $i : path "/" $i; gone = path in whole }
          if (gone || path in parts) print }' "$own/added"
}
note_crowded() {
    detail=
    [ -z "$1" ] || detail='left out'
    grep "^${1:-full} " "$own/crowded" | at_most 200 | while read -r state count kind path; do
        note many_files "$count" '' "$path" "$detail"
    done
}

# The commit of the tree; the parent if that has the same tree.
commit_tree() {
    head=$parent
    [ "$tree" = "$(g rev-parse "$parent^{tree}")" ] ||
        head=$(printf 'Work in progress\n' | g commit-tree -p "$parent" "$tree")
}

# Bundles the work. A bundle that is too large is refused with everything in it, so the largest new files are left out until
# the rest fits, then changed ones, which stay as the base has them. What cannot be made to fit, the host refuses.
bundle_that_fits() {
    round=1
    while [ "$head" != "$FOUNDRY_BASE" ]; do
        bundle "^$FOUNDRY_BASE" || return 1
        over=$(($(wc -c <"$FOUNDRY_BUNDLE") - FOUNDRY_MAX_BUNDLE))
        if [ "$over" -le 0 ] || [ "$round" -gt 4 ]; then return 0; fi
        round=$((round + 1))
        # What goes before the next bundle is named by that one.
        grep -v '^lfs_objects	' "$own/notices" >"$own/notices.less"
        mv -f "$own/notices.less" "$own/notices"
        g rev-list --objects --no-object-names "$parent" "^$FOUNDRY_BASE" >"$own/history" || return 1
        largest_files "$over" || return 1
        [ -s "$own/leave" ] || [ -s "$own/history" ] || return 0
        # What the agent has committed goes only with the commits.
        if [ -s "$own/history" ] && [ ! -s "$own/enough" ]; then
            grep -q '^history_left_out	' "$own/notices" || note history_left_out 0 '' '' ''
            parent=$FOUNDRY_BASE
        else
            while read -r size path; do note over_total "$size" '' "$path" ''; done <"$own/leave.named"
            unlines <"$own/leave" | g update-index -z --index-info || return 1
            tree=$(g write-tree) || return 1
        fi
        commit_tree || return 1
    done
    rm -f "$FOUNDRY_BUNDLE"
}

# largest_files BYTES: the files to leave out that make a bundle smaller by so much, new ones first and of them the largest, as
# entries for an index and with their sizes; `enough` has something in it if they suffice.
largest_files() {
    g diff-tree -r -z --raw --no-renames --diff-filter=AMT "$FOUNDRY_BASE" "$tree" | lines |
        awk '/^:/ { split(substr($0, 2), of, " "); next } of[2] ~ /^1[02]0/ { print of[4], of[5], of[1], of[3], $0 }' >"$own/new.files" || return 1
    cut -d ' ' -f 1 "$own/new.files" | sort -u | grep -Fvx -f "$own/history" |
        g cat-file --batch-check='%(objectname) %(objectsize:disk) %(objectsize)' >"$own/sizes"
    : >"$own/leave.named"
    : >"$own/enough"
    awk -v sizes="$own/sizes" '
        BEGIN { while ((getline line <sizes) > 0) { split(line, of, " "); disk[of[1]] = of[2]; size[of[1]] = of[3] } }
        $1 in disk { print $2 == "A" ? 0 : 1, disk[$1], size[$1], $0 }' "$own/new.files" | sort -k 1,1n -k 2,2nr |
        awk -v over="$1" -v named="$own/leave.named" -v enough="$own/enough" '
            # A little more, for the sizes are not exactly those in the bundle.
            BEGIN { over += over / 64 + 4096 }
            over > 0 {
                path = $0; over -= $2
                for (n = 1; n <= 7; n++) sub(/^[^ ]* /, "", path)
                # A new file has no mode and no blob before.
                print ($1 == 0 ? 0 : $6) " " $7 "\t" path
                print $3, path >>named
            }
            END { if (over <= 0) print "yes" >>enough }' >"$own/leave"
}
