# What only the work's own rules ignore, as functions of `work_bundle.sh`, which calls them.

# The rules of the base, as a tree of nothing but its `.gitignore` files. Without the base, those that an earlier run found.
rules_of_base() {
    rules=$own/rules
    rm -rf "$rules" "$own/rules.index" && mkdir "$rules" || return 1
    if [ -n "$lost" ]; then
        [ ! -d "${FOUNDRY_BUNDLE%.bundle}.rules" ] || cp -R "${FOUNDRY_BUNDLE%.bundle}.rules/." "$rules"
        return 0
    fi
    g ls-tree -r -z "$FOUNDRY_BASE" | lines | grep -E '^100(644|755) blob [0-9a-f]+	(.*/)?\.gitignore$' | unlines |
        (export GIT_INDEX_FILE="$own/rules.index" && g update-index -z --index-info &&
            GIT_WORK_TREE=$rules g checkout-index --all --quiet)
    rm -rf "${FOUNDRY_BUNDLE%.bundle}.rules"
    cp -R "$rules" "${FOUNDRY_BUNDLE%.bundle}.rules"
}

# Those of some paths, a line each, that the rules of the base do not ignore.
not_by_base() {
    sed 's|^|./|' | unlines |
        (cd "$rules" && GIT_LITERAL_PATHSPECS=0 GIT_WORK_TREE=$rules GIT_INDEX_FILE=$own/none git -c core.bare=false -c core.excludesFile=/dev/null \
            check-ignore -v -n -z --no-index --stdin 2>/dev/null) | lines |
        awk 'NR % 4 == 1 { from = $0 } NR % 4 == 3 { rule = $0 } NR % 4 == 0 && (from == "" || rule ~ /^!/) { print substr($0, 3) }'
}

# Files that are ignored by no rule of the base, but by one that the work adds or changes, or by one of the agent's repository:
# no hand-over takes them, and who wrote the rule may not know that. Large ones, and those of linked worktrees, have notices of
# their own.
ignored_by_work() {
    g ls-files -z -o -i --exclude-standard --directory 2>/dev/null | lines >"$own/ignored"
    # A later run without the base needs its rules.
    [ -s "$own/ignored" ] || [ ! -d "${FOUNDRY_BUNDLE%.bundle}.rules" ] || return 0
    rules_of_base || return 0
    not_by_base <"$own/ignored" >"$own/ignored.new"
    [ -s "$own/ignored.new" ] || return 0
    awk -F '\t' '$1 == "linked_worktree" { print $4 }' "$own/notices" >"$own/worktrees"
    unlines <"$own/ignored.new" | xargs -0 sh -c '
        for path do
            # A repository that is ignored as a whole.
            if [ -d "$path" ] && [ ! -L "${path%/}" ] && [ ! -e "$path/.git" ]; then find "./$path" -name .git -prune -o \( -type f -o -type l \) -print0
            else printf "./%s\000" "$path"; fi
        done' sh 2>/dev/null | lines | sed 's|^\./||; s|/$||; s|//*|/|g' | head -n 200000 | sort -u |
        grep -Fvx -f "$own/large.lines" >"$own/ignored.files"
    awk -v worktrees="$own/worktrees" '
        BEGIN { while ((getline path <worktrees) > 0) skip[path] = 1 }
        { path = $0; inside = path in skip
          while (!inside && match(path, "/[^/]*$")) { path = substr(path, 1, RSTART - 1); inside = path in skip }
          if (!inside) print }' "$own/ignored.files" | not_by_base >"$own/ignored.new"
    [ -s "$own/ignored.new" ] || return 0
    # The file of the rule, once for all that it ignores.
    sed 's|^|./|' "$own/ignored.new" | unlines |
        (export GIT_LITERAL_PATHSPECS=0 && g check-ignore -v -n -z --no-index --stdin 2>/dev/null) | lines |
        awk -v agent="$FOUNDRY_EXCLUDES" '
            NR % 4 == 1 { from = $0 == agent || $0 == "" ? ".git/info/exclude" : $0 }
            NR % 4 == 0 { if (!(from in count)) { order[++kinds] = from; first[from] = substr($0, 3) } count[from]++ }
            END { for (n = 1; n <= kinds; n++) print count[order[n]] "\t" order[n] "\t" first[order[n]] }' |
        sort -k 1,1nr | at_most 10 | while IFS='	' read -r count from path; do note ignored_by_work "$count" '' "$path" "$from"; done
}
