# Runs inside a sandbox: commits the work tree as it is, untracked files included, and writes a
# bundle of what is not in the base. The agent's index, HEAD, refs and configuration stay as they
# are: all is written to a repository of our own that borrows the agent's objects.
#
# In (environment): FOUNDRY_TREE work tree, FOUNDRY_BASE recorded base commit, FOUNDRY_REF ref in
# the bundle, FOUNDRY_BUNDLE file to write, FOUNDRY_DATE seconds since the epoch, FOUNDRY_MAX_FILE
# bytes of the largest file to take, FOUNDRY_MAX_FILES most new files to take, FOUNDRY_MAX_BUNDLE bytes of the largest
# bundle, FOUNDRY_MAX_LFS bytes of objects of Git LFS and of the bundle that they go before.
# Out: the head commit on the first line of standard output; it equals the base when nothing changed
# (no bundle then). A line for each notice follows: kind, count, branch, path and detail, separated
# by tabs. What a name contains beyond printable bytes is replaced.
# Exit: 0, 64 bad parameters, 65 no git, 66 work tree gone, 70 git failed.
set -u
umask 077
say() { printf '%s\n' "$*" >&2; }
fail() { code=$1; shift; say "$*"; exit "$code"; }

: "${FOUNDRY_TREE:=}" "${FOUNDRY_BASE:=}" "${FOUNDRY_REF:=}" "${FOUNDRY_BUNDLE:=}" "${FOUNDRY_DATE:=}" "${FOUNDRY_MAX_FILE:=}" \
    "${FOUNDRY_MAX_FILES:=}" "${FOUNDRY_MAX_BUNDLE:=}" "${FOUNDRY_MAX_LFS:=}"
case $FOUNDRY_TREE in /*) ;; *) fail 64 'FOUNDRY_TREE is not an absolute path' ;; esac
case $FOUNDRY_BUNDLE in /*) ;; *) fail 64 'FOUNDRY_BUNDLE is not an absolute path' ;; esac
case $FOUNDRY_REF in refs/foundry/work/?*) ;; *) fail 64 'FOUNDRY_REF is not a work ref' ;; esac
case $FOUNDRY_BASE in '' | *[!0-9a-f]*) fail 64 'FOUNDRY_BASE is not a commit id' ;; esac
case $FOUNDRY_DATE in '' | *[!0-9]*) fail 64 'FOUNDRY_DATE is not a number of seconds' ;; esac
case $FOUNDRY_MAX_FILE in '' | *[!0-9]*) fail 64 'FOUNDRY_MAX_FILE is not a number of bytes' ;; esac
case $FOUNDRY_MAX_FILES in '' | *[!0-9]*) fail 64 'FOUNDRY_MAX_FILES is not a number' ;; esac
case $FOUNDRY_MAX_LFS in '' | *[!0-9]*) fail 64 'FOUNDRY_MAX_LFS is not a number of bytes' ;; esac
case $FOUNDRY_MAX_BUNDLE in '' | *[!0-9]*) fail 64 'FOUNDRY_MAX_BUNDLE is not a number of bytes' ;; esac
command -v git >/dev/null 2>&1 || fail 65 'git is not installed in the sandbox'

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR \
    GIT_NAMESPACE GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT GIT_PREFIX GIT_TRACE GIT_EXTERNAL_DIFF
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 \
    GIT_NO_REPLACE_OBJECTS=1 GIT_LITERAL_PATHSPECS=1 GIT_OPTIONAL_LOCKS=0
# The tree may belong to another user of the sandbox.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory 'GIT_CONFIG_VALUE_0=*'

cd "$FOUNDRY_TREE" 2>/dev/null || fail 66 'the work tree is gone'
# Never a repository further up.
GIT_CEILING_DIRECTORIES=$(dirname "$(pwd -P)")
export GIT_CEILING_DIRECTORIES

# Beside the bundle, so that it is renamed into place; what a killed run left behind goes, its locks too.
rm -rf -- "$FOUNDRY_BUNDLE".?*
own=$(mktemp -d "$FOUNDRY_BUNDLE.XXXXXX") || fail 70 'cannot create a temporary directory'
trap 'rm -rf "$own"' EXIT
trap 'exit 70' HUP INT TERM
: >"$own/notices"

# note KIND COUNT BRANCH PATH DETAIL; also for the shells that this one starts. Beyond the first of a kind, only the
# number counts.
FOUNDRY_NOTE='
plain() {
    case $1 in *[!\ -~]*) ;; *) [ "${#1}" -gt "$2" ] || { printf %s "$1"; return 0; } ;; esac
    printf %s "$1" | tr "\000-\037\177" "?" | cut -b "1-$2"
}
note() {
    [ "$(grep -c "^$1	" "$own/notices")" -lt 15 ] || { printf "more\n" >>"$own/notices"; return 0; }
    printf "%s\t%s\t%s\t%s\t%s\n" "$1" "${2:-0}" "$(plain "$3" 200)" "$(plain "$4" 400)" "$(plain "$5" 100)" >>"$own/notices"
}'
export FOUNDRY_NOTE own
eval "$FOUNDRY_NOTE"
# The first lines of a list for notices; the rest is counted.
at_most() { awk -v most="$1" -v notices="$own/notices" 'NR > most { print "more" >>notices; next } { print }'; }
# What is lost comes first: a reader takes a limited number.
print_notices() {
    awk -F '\t' '
        BEGIN { kinds = split("repository_lost history_left_out too_large over_total large_ignored lfs_objects many_files ignored_by_work unreadable operation " \
                "history_rewritten submodule_changed linked_worktree other_branch stash nested_repository " \
                "submodule_absent lfs_pointers line_endings", order, " ") }
        $0 == "more" { more++; next }
        { lines[$1] = lines[$1] $0 "\n" }
        END { for (n = 1; n <= kinds; n++) printf "%s", lines[order[n]]
              if (more) printf "more\t%d\t\t\t\n", more }' "$own/notices"
}

# add_all GIT...; 1 means that some files could not be added, which the log names. When git dies instead, it has added
# nothing: an attribute that asks for another encoding than a file has is enough. Then all are added as they are.
FOUNDRY_ADD='
add_all() {
    : >"$own/add.now"
    "$@" add --all --ignore-errors -- . 2>"$own/add.now"
    added=$?
    if [ "$added" -gt 1 ]; then
        cat "$own/add.now" >&2
        GIT_ATTR_SOURCE=$(git hash-object -t tree /dev/null) "$@" add --all --ignore-errors -- . 2>"$own/add.now"
        added=$?
    fi
    cat "$own/add.now" >&2
    cat "$own/add.now" >>"$own/add.log"
    [ "$added" -le 1 ]
}'
export FOUNDRY_ADD
eval "$FOUNDRY_ADD"

# Without its repository, or without the base in it, the tree is compared as it is.
common=
agent_dir=
index=
lost=
if [ ! -e .git ]; then
    lost=missing
elif ! git rev-parse --path-format=absolute --git-common-dir --git-dir --git-path index --show-object-format >"$own/places" 2>/dev/null ||
    [ "$(grep -c '' "$own/places")" != 4 ]; then
    lost=damaged
else
    { read -r common && read -r agent_dir && read -r index && read -r format; } <"$own/places"
    # On an unborn branch the work hangs on the base.
    parent=$(git rev-parse --verify --quiet 'HEAD^{commit}') || parent=$FOUNDRY_BASE
    printf '%s^{tree}\n' "$FOUNDRY_BASE" "$parent" | git cat-file --batch-check='%(objecttype)' >"$own/trees" 2>/dev/null
    base_type= parent_type=
    { read -r base_type && read -r parent_type; } <"$own/trees" || :
    if [ "$base_type" != tree ]; then lost=replaced
    elif [ "$parent_type" != tree ]; then lost=damaged
    fi
fi
sparse=
if [ -z "$lost" ] && [ -f "$agent_dir/info/sparse-checkout" ]; then
    sparse=$(git config --type=bool --get core.sparseCheckout 2>/dev/null) || :
fi
if [ -n "$lost" ]; then
    [ "$lost" = replaced ] || common=$own/none
    format=sha1
    [ ${#FOUNDRY_BASE} -eq 40 ] || format=sha256
fi
export common own

git init --quiet --bare --template= --object-format="$format" "$own/repo" >/dev/null || fail 70 'git init failed'
if [ -z "$lost" ]; then
    printf '%s\n' "$common/objects" >"$own/repo/objects/info/alternates" || fail 70 'cannot write'
    [ ! -f "$common/shallow" ] || cp "$common/shallow" "$own/repo/shallow" || fail 70 'cannot copy'
else
    parent=$FOUNDRY_BASE
fi

# Refs and reflogs of the agent, read before our own repository takes its place; none of its programs is run.
of_agent() { GIT_DIR=$common git -c core.fsmonitor=false -c core.hooksPath=/dev/null "$@" 2>/dev/null; }

# What only the agent's repository has: other branches, stashes, worktrees, unfinished operations.
look_around() {
    operation=
    if [ -d "$agent_dir/rebase-merge" ]; then operation=rebase
    elif [ -f "$agent_dir/rebase-apply/applying" ]; then operation=am
    elif [ -d "$agent_dir/rebase-apply" ]; then operation=rebase
    elif [ -f "$agent_dir/MERGE_HEAD" ]; then operation=merge
    elif [ -f "$agent_dir/CHERRY_PICK_HEAD" ]; then operation=cherry-pick
    elif [ -f "$agent_dir/REVERT_HEAD" ]; then operation=revert
    elif [ -f "$agent_dir/BISECT_LOG" ]; then operation=bisect
    fi
    rebased=
    if [ -n "$operation" ]; then
        conflicts=0
        [ ! -f "$index" ] || conflicts=$(GIT_INDEX_FILE=$index of_agent ls-files --unmerged | cut -f 2 | sort -u | wc -l)
        note operation $((conflicts)) '' '' "$operation"
        for file in "$agent_dir/rebase-merge/head-name" "$agent_dir/rebase-apply/head-name"; do
            [ ! -f "$file" ] || rebased=$(head -c 1000 "$file")
        done
    fi
    of_agent for-each-ref --format='%(objectname) %(refname)' --no-merged="$parent" refs/heads/ refs/stash >"$own/branches"
    stashes=0
    if grep -q ' refs/stash$' "$own/branches"; then
        stashes=$(of_agent rev-list --walk-reflogs --count refs/stash) || stashes=1
        sed -i '/ refs\/stash$/d' "$own/branches"
    fi
    unseen=$(($(wc -l <"$own/branches") - 300))
    [ "$unseen" -le 0 ] || note other_branch "$unseen" '' '' 'not compared'
    head -n 300 "$own/branches" |
        while read -r id ref; do
            if [ "$ref" = "$rebased" ]; then
                # Of the branch that is being rebased, what waits for its turn is in no other place.
                count=$(grep -Ec '^(pick|reword|edit|squash|fixup) ' "$agent_dir/rebase-merge/git-rebase-todo" 2>/dev/null) || :
                [ "${count:-0}" = 0 ] || note other_branch "$count" "${ref#refs/heads/}" '' "$id"
                continue
            fi
            count=$(of_agent rev-list --count --max-count=10000 "$id" --not "$parent" "$FOUNDRY_BASE" --remotes) || continue
            [ "$count" = 0 ] || note other_branch "$count" "${ref#refs/heads/}" '' "$id"
        done
    # Commits on no branch that the agent left by a checkout; what it amended or rebased away it meant to drop.
    (common=$agent_dir; of_agent log --walk-reflogs -s --no-show-signature --max-count=1000 --format=%gs HEAD) |
        sed -n 's/^checkout: moving from \([0-9a-f]\{40,64\}\) to .*/\1/p' | sort -u >"$own/detached"
    [ ! -s "$own/detached" ] || of_agent rev-list --max-count=10000 --ignore-missing --stdin --not "$parent" "$FOUNDRY_BASE" --branches --remotes \
        <"$own/detached" >"$own/left"
    [ ! -s "$own/detached" ] || [ ! -s "$own/left" ] || note other_branch $(($(wc -l <"$own/left"))) "$(head -n 1 "$own/left")" '' ''
    [ "$stashes" = 0 ] || note stash "$stashes" '' '' ''
    here=$(pwd -P)
    for entry in "$common"/worktrees/*/; do
        [ -f "${entry}gitdir" ] || continue
        tree_of=$(head -c 5000 "${entry}gitdir"); tree_of=${tree_of%/.git}
        tree_of=$(cd "$common" && cd "$tree_of" 2>/dev/null && pwd -P) || continue
        [ "$tree_of" != "$here" ] || continue
        on=
        [ ! -f "${entry}HEAD" ] || on=$(head -c 1000 "${entry}HEAD")
        case $on in 'ref: refs/heads/'*) on=${on#ref: refs/heads/} ;; *) on= ;; esac
        note linked_worktree 0 "$on" "${tree_of#"$here/"}" ''
    done
}
[ -n "$lost" ] || look_around

export GIT_DIR="$own/repo" GIT_WORK_TREE="$PWD"
export GIT_AUTHOR_NAME=Foundry GIT_AUTHOR_EMAIL=foundry@localhost GIT_AUTHOR_DATE="@$FOUNDRY_DATE +0000"
export GIT_COMMITTER_NAME=Foundry GIT_COMMITTER_EMAIL=foundry@localhost GIT_COMMITTER_DATE="@$FOUNDRY_DATE +0000"
FOUNDRY_EXCLUDES=$own/excludes
export FOUNDRY_EXCLUDES
# With sparse checkouts on, but no patterns in our own repository, git believes no entry that claims to be absent
# from the tree although its file is there; one without a file stays as it was.
g() {
    git -c core.sparseCheckout=true -c core.bare=false -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false \
        -c core.attributesFile=/dev/null -c core.excludesFile="$FOUNDRY_EXCLUDES" -c core.splitIndex=false \
        -c gc.auto=0 -c filter.lfs.clean='sh -c "$FOUNDRY_CLEAN"' -c advice.addEmbeddedRepo=false -c submodule.recurse=false "$@"
}

# Files over the limit would have the whole work refused. They are excluded before git reads them, and taken out
# again where a `.gitignore` includes them; one that git already has stays as it was.
find . -name .git -prune -o -type f -size "+$((FOUNDRY_MAX_FILE / 512))" -print0 2>/dev/null >"$own/large"
# excludes DIR: those below a directory, as patterns for a work tree that begins there.
FOUNDRY_LARGE='
excludes() {
    cat "$common/info/exclude" 2>/dev/null || :
    printf "\n"
    [ ! -s "$own/large" ] || xargs -0 -n 1 sh -c '"'"'
        case $2 in "$1"/*) ;; *) exit 0 ;; esac
        printf "%s\n" "$(printf %s "${2#"$1"}" | tr "\n" "\001" | sed "s/[][\\\\*?!# ]/\\\\&/g" | tr "\001" "?")"'"'"' sh "$1" <"$own/large"
}'
export FOUNDRY_LARGE
eval "$FOUNDRY_LARGE"
excludes . >"$FOUNDRY_EXCLUDES"
tr '\n\000' '\001\n' <"$own/large" | sed 's|^\./||' >"$own/large.lines"
without_large() {
    [ -s "$own/large" ] || return 0
    xargs -0 -n 1 sh -c '
        set -u
        path=${1#./}
        eval "$FOUNDRY_NOTE"
        # Its pointer was taken, and its content goes before the bundle.
        if grep -Fqx -e "$path" "$own/lfs.lines" && [ -n "$(git ls-files --stage -- "$path")" ]; then exit 0; fi
        ignored() {
            GIT_LITERAL_PATHSPECS=0 git -c core.excludesFile="$common/info/exclude" check-ignore --no-index "$@" 2>/dev/null
        }
        # Whether a directory above is ignored by a rule that the base has: what it is for is known to its authors.
        is_output() {
            above=$path
            while [ "$above" != "${above%/*}" ]; do
                above=${above%/*}
                printf "./%s\000" "$above" | ignored -v -z --stdin | tr "\n\000" "\001\n" >"$own/rule"
                { IFS= read -r from && read -r line && IFS= read -r pattern; } <"$own/rule" || continue
                case $pattern in !*) continue ;; esac
                git cat-file blob "$FOUNDRY_BASE:$from" 2>/dev/null | tr -d "\r" | grep -Fxq -e "$pattern" && return 0
            done
            return 1
        }
        # Ignored for another reason: no part of the work, but perhaps in no other place.
        if ignored -q -- "./$path" && ! git ls-files --error-unmatch -- "$path" >/dev/null 2>&1; then
            is_output || note large_ignored "$(wc -c <"$path")" "" "$path" ""
            exit 0
        fi
        entry=$(git ls-tree "$parent" -- "$path" 2>/dev/null | cut -f 1)
        staged=$(git ls-files --stage -- "$path" | cut -d " " -f 2)
        [ -z "$staged" ] || [ "$staged" != "${entry##* }" ] || exit 0
        note too_large "$(wc -c <"$path")" "" "$path" ""
        git update-index --force-remove -- "$path"
        case $entry in
            *" blob "*) git update-index --add --cacheinfo "${entry%% *},${entry##* },$path" ;;
        esac' sh <"$own/large"
}

# An entry that is to be assumed unchanged hides changes, and the removal of its file. What is absent from the tree on
# purpose is kept for a later run that finds no index.
believe_no_flag() {
    g ls-files -v -z >"$own/flags.z" 2>/dev/null || return 1
    lines <"$own/flags.z" >"$own/flags"
    sed -n 's/^[a-z] //p' "$own/flags" >"$own/assumed"
    [ ! -s "$own/assumed" ] || unlines <"$own/assumed" | g update-index -q -z --no-assume-unchanged --stdin >/dev/null 2>&1 || :
    sed -n 's/^[Ss] //p' "$own/flags" >"$own/absent"
    mv -f "$own/absent" "${FOUNDRY_BUNDLE%.bundle}.absent"
}

# Without its index, what the agent's sparse checkout leaves out, and what an earlier run found absent on purpose, is
# no removal.
absent_on_purpose() {
    : >"$own/absent"
    [ ! -f "${FOUNDRY_BUNDLE%.bundle}.absent" ] || cat "${FOUNDRY_BUNDLE%.bundle}.absent" >"$own/absent"
    [ "$sparse" = true ] || [ -s "$own/absent" ] || return 0
    g ls-files -z | lines | sort >"$own/entries"
    if [ "$sparse" = true ]; then
        # Older gits do not have this command.
        unlines <"$own/entries" | g sparse-checkout check-rules -z --no-cone --rules-file="$agent_dir/info/sparse-checkout" \
            2>/dev/null | lines | sort >"$own/inside"
        [ ! -s "$own/inside" ] || comm -23 "$own/entries" "$own/inside" >>"$own/absent"
    fi
    sort -u "$own/absent" | comm -12 - "$own/entries" | unlines | g update-index -z --skip-worktree --stdin
}

# Starts from a copy of the agent's index, which saves hashing unchanged files and contains files that
# were added in spite of .gitignore; -p keeps its time, by which git finds what is racy. An index
# that cannot be used is rebuilt from the commit.
seed_from_index() {
    [ -f "$index" ] && cp -p "$index" "$own/index" 2>/dev/null && chmod u+w "$own/index" &&
        believe_no_flag && stage && tree=$(g write-tree 2>/dev/null)
}
seed_from_commit() {
    rm -f "$own/index" "$own/index.lock"
    g read-tree "$parent" && absent_on_purpose && stage && tree=$(g write-tree)
}
# Without the base, files that it has in spite of .gitignore, and submodules, are in lists that an earlier run left.
seed_from_nothing() {
    rm -f "$own/index" "$own/index.lock"
    stage || return 1
    if [ -f "${FOUNDRY_BUNDLE%.bundle}.forced" ]; then
        xargs -0 sh -c 'for path do [ ! -f "$path" ] || printf "%s\0" "$path"; done' sh \
            <"${FOUNDRY_BUNDLE%.bundle}.forced" | g update-index -z --add --stdin
    fi
    if [ -f "${FOUNDRY_BUNDLE%.bundle}.links" ]; then
        unlines <"${FOUNDRY_BUNDLE%.bundle}.links" | xargs -0 sh -c '
            for line do [ ! -d "./${line#*	}" ] || printf "%s\0" "$line"; done' sh | g update-index -z --index-info
    fi
    tree=$(g write-tree)
}

stage() {
    : >"$own/add.log"
    clean_lfs || : >"$own/lfs.lines"
    add_all g && nested_repositories && without_large
}

# `git add` takes a repository inside the tree for a submodule, or fails when it has no commit. Its
# files are part of the work, so they are added as files; real submodules stay what they are, and
# linked worktrees are copies of the tree, which are left out.
nested_repositories() {
    rm -f "$own/nested"
    find . -mindepth 2 -name .git -prune -exec sh -c '
        for dot_git do
            nested=${dot_git#./}; nested=${nested%/.git}
            printf "%s\0" "$nested"
        done' sh {} + >"$own/nested" 2>/dev/null
    [ -s "$own/nested" ] || return 0
    export parent lost
    xargs -0 -n 1 sh -c '
        nested=$1
        set -u
        eval "$FOUNDRY_NOTE$FOUNDRY_ADD$FOUNDRY_LARGE"
        if [ -n "$lost" ] && cut -f 2- "${FOUNDRY_BUNDLE%.bundle}.links" 2>/dev/null | grep -Fqx -e "$nested"; then exit 0; fi
        is_link() { git ls-tree "$1" -- "$nested" 2>/dev/null | grep -q "^160000 "; }
        # A submodule that nothing says where to fetch from is a repository that was added by accident.
        is_listed() {
            git config -f ./.gitmodules --get-regexp "^submodule\..*\.path\$" 2>/dev/null | cut -d " " -f 2- |
                grep -Fqx -e "$nested"
        }
        if is_link "$FOUNDRY_BASE"; then
            # One that was taken out of the index, and that git does not take as long as it has no commit.
            [ -n "$(git ls-files --stage -- "$nested")" ] || git ls-tree "$FOUNDRY_BASE" -- "$nested" | git update-index --index-info
            exit 0
        fi
        if is_link "$parent" && is_listed; then exit 0; fi
        is_worktree() {
            [ -f "$1/.git" ] && [ ! -L "$1/.git" ] || return 1
            to=$(head -c 5000 "$1/.git"); to=${to#gitdir: }
            to=$(cd "$1" 2>/dev/null && cd "$to" 2>/dev/null && pwd -P) || return 1
            case $to in "$common"/worktrees/*) return 0 ;; esac
            return 1
        }
        above=$nested
        while [ "$above" != "${above%/*}" ]; do
            above=${above%/*}
            ! is_worktree "$above" || exit 0
        done
        # This command knows no literal pathspecs; with ./ in front no name is magic.
        GIT_LITERAL_PATHSPECS=0 git -c core.excludesFile="$FOUNDRY_EXCLUDES" \
            check-ignore -q --no-index -- "./$nested" && exit 0
        git update-index --force-remove -- "$nested"
        git -c core.excludesFile="$FOUNDRY_EXCLUDES" rm -r -q --cached --ignore-unmatch -- "$nested" >/dev/null
        # Of a repository in place of the lost one, nothing else names them.
        ! is_worktree "$nested" || { [ -z "$lost" ] || note linked_worktree 0 "" "$nested" ""; exit 0; }
        note nested_repository 0 "" "$nested" ""
        rm -f "$own/sub"
        excludes "./$nested" >"$own/sub.excludes"
        printf "below: %s\n" "$(plain "$nested" 400)" >>"$own/add.log"
        sub=$(
            cd "./$nested" && GIT_WORK_TREE=$(pwd) GIT_INDEX_FILE="$own/sub" && export GIT_WORK_TREE GIT_INDEX_FILE &&
                add_all git -c core.bare=false -c core.fsmonitor=false -c core.hooksPath=/dev/null \
                    -c core.excludesFile="$own/sub.excludes" >&2 && git write-tree
        ) || exit 255
        [ "$(git cat-file -s "$sub")" = 0 ] || git read-tree --prefix="$nested/" "$sub" || exit 255
    ' sh <"$own/nested" || return 1
}

# Changed files whose difference from tree $1 is in line endings alone, as `mode blob path`.
line_endings() {
    g -c core.bigFileThreshold=4m diff-tree -r --diff-filter=M --raw --numstat --ignore-cr-at-eol "$1" "$tree" >"$own/differ" || return 1
    awk -F '\t' '
        /^:/ { split($1, of, " "); path = substr($0, length($1) + 2); mode = substr(of[1], 2)
            if (mode == of[2] && of[3] != of[4] && path !~ /^"/) same[path] = of[2] " " of[3]
            next }
        { delete same[substr($0, length($1) + length($2) + 3)] }
        END { for (path in same) print same[path], path }' "$own/differ" | sort -k 3
}

# Files of the base that are ignored, and that a history without the base does not have, are still there. From a history
# with the base the agent has taken them out.
still_there() {
    [ "$parent" != "$FOUNDRY_BASE" ] && ! g merge-base --is-ancestor "$FOUNDRY_BASE" "$parent" || return 0
    g diff-tree -r -z --diff-filter=D --name-only "$FOUNDRY_BASE" "$tree" >"$own/gone" || return 1
    [ -s "$own/gone" ] || return 0
    # One that is too large has its own notice.
    { xargs -0 sh -c 'for path do { [ -f "./$path" ] || [ -L "./$path" ]; } && printf "%s\0" "$path"; done' sh <"$own/gone" || :; } |
        lines | grep -Fvx -f "$own/large.lines" | unlines >"$own/there"
    [ -s "$own/there" ] || return 0
    g add -f --ignore-errors --pathspec-from-file="$own/there" --pathspec-file-nul 2>>"$own/add.log"
    tree=$(g write-tree)
}

# A file that is as a checkout would write it is no change, even if git would now store other line endings.
as_checked_out() {
    seen=$parent
    line_endings "$parent" | head -n 1000 >"$own/endings"
    while read -r mode blob path; do
        g cat-file --filters "$parent:$path" 2>/dev/null | cmp -s - "./$path" || continue
        g update-index --cacheinfo "$mode,$blob,$path" || return 1
    done <"$own/endings"
    [ ! -s "$own/endings" ] || tree=$(g write-tree)
    as_stored
}

# Submodules are links to commits of other repositories; what is below them is not part of the work.
submodules() {
    g ls-files --stage -z | lines | grep '^160000 ' >"$own/links"
    sed -n 's/^160000 [0-9a-f]* 0.//p' "$own/links" | at_most 200 |
        while IFS= read -r path; do
            if [ ! -e "$path/.git" ]; then
                count=$(find "./$path" -type f 2>/dev/null | head -n 1000 | wc -l)
                if [ $((count)) = 0 ]; then note submodule_absent 0 '' "$path" ''
                else note submodule_changed $((count)) '' "$path" ''; fi
                continue
            fi
            its_index=$(unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE; cd "./$path" && git -c core.fsmonitor=false \
                rev-parse --path-format=absolute --git-path index 2>/dev/null) || continue
            rm -f "$own/sub"
            [ ! -f "$its_index" ] || cp -p "$its_index" "$own/sub" 2>/dev/null || continue
            count=$(cd "./$path" && GIT_WORK_TREE=$(pwd) GIT_INDEX_FILE=$own/sub g ls-files -m -o --exclude-standard \
                2>/dev/null | head -n 1000 | wc -l)
            link=$(g ls-files --stage -- "$path" | cut -d ' ' -f 2)
            # Without history, links are as an earlier run left them.
            was=$link
            [ -n "$lost" ] || was=$(g rev-parse --verify --quiet "$parent:$path")
            [ $((count)) = 0 ] && [ "$link" = "$was" ] ||
                note submodule_changed $((count)) '' "$path" ''
        done
}

# A name a line: a line break within a name becomes another byte that names do not have.
lines() { tr '\n\000' '\001\n'; }
unlines() { tr '\001\n' '\n\000'; }

unreadable() {
    # A line break in a name continues on the next line.
    awk '/^(error|warning|fatal|hint|below): / { if (held != "") print held; held = $0; next }
        { held = held "?" $0 } END { print held }' "$own/add.log" |
    sed -n "s/^below: .*/&/p; s/^error: open(\"\(.*\)\"): .*\$/= \1/p
        s/^warning: could not open directory '\(.*\)': .*\$/= \1/p
        s/^error: invalid path '\(.*\)'\$/= \1/p; s/^error: unable to add '\(.*\)' to index\$/= \1/p" |
        awk 'sub(/^below: /, "") { below = $0 "/"; next } sub(/^= /, "") { print below $0 }' | sort -u | at_most 200 |
        while IFS= read -r path; do note unreadable 0 '' "$path" ''; done
}

# Renamed into place, so that nobody reads a half-written bundle.
bundle() {
    g update-ref "$FOUNDRY_REF" "$head" || return 1
    g -c pack.threads=1 bundle create --quiet "$own/bundle" "$FOUNDRY_REF" "$@" >&2 || return 1
    # The work is whole without them.
    lfs_objects || note lfs_objects 0 '' '' ''
    mv -f "$own/bundle" "$FOUNDRY_BUNDLE" || fail 70 'cannot move the bundle into place'
}

# An import refuses a commit with a file over the limit, and with it everything else. Then only the tree is taken.
without_large_commits() {
    [ "$parent" != "$FOUNDRY_BASE" ] || return 0
    {
        printf '%s\n^%s\n' "$parent" "$FOUNDRY_BASE"
        of_agent for-each-ref --format='^%(objectname)' refs/remotes/
    } | g rev-list --objects --no-object-names --stdin | g cat-file --batch-check='%(objecttype) %(objectsize)' |
        awk -v most="$FOUNDRY_MAX_FILE" '$1 == "blob" && $2 > most { exit 1 }' && return 0
    note history_left_out 0 '' '' ''
    parent=$FOUNDRY_BASE
    without_large && tree=$(g write-tree)
}

with_history() {
    seed_from_index || { cp "$own/notices.before" "$own/notices" && seed_from_commit; } || return 1
    as_checked_out && still_there && without_large_commits && many_files || return 1
    unreadable
    submodules
    lfs_pointers
    ignored_by_work
    # For a later run that has no repository.
    {
        g ls-files -i -c -z --exclude-standard 2>/dev/null
        # A file of the base that is gone may come back.
        g diff-tree -r -z --diff-filter=D --name-only "$FOUNDRY_BASE" "$tree" | lines | sed 's|^|./|' | unlines |
            (export GIT_LITERAL_PATHSPECS=0 && g check-ignore -z --stdin --no-index 2>/dev/null)
    } >"$own/forced"
    mv -f "$own/forced" "${FOUNDRY_BUNDLE%.bundle}.forced"
    mv -f "$own/links" "${FOUNDRY_BUNDLE%.bundle}.links"
    blobs_of_base
    # An agent that went back behind the base leaves a tree that differs from the base.
    if [ "$parent" != "$FOUNDRY_BASE" ] && g merge-base --is-ancestor "$parent" "$FOUNDRY_BASE"; then
        parent=$FOUNDRY_BASE
    fi
    commit_tree || return 1
    if [ "$seen" != "$FOUNDRY_BASE" ] || [ -s "$own/endings" ]; then line_endings "$FOUNDRY_BASE" >"$own/endings"; fi
    [ ! -s "$own/endings" ] ||
        note line_endings $(($(wc -l <"$own/endings"))) '' "$(head -n 1 "$own/endings" | cut -d ' ' -f 3-)" ''
    bundle_that_fits || return 1
    [ "$head" = "$FOUNDRY_BASE" ] || g merge-base --is-ancestor "$FOUNDRY_BASE" "$head" || note history_rewritten 0 '' '' ''
}

# The commit names the base as its parent without having it, as the first one of a shallow repository.
without_history() {
    note repository_lost 0 '' '' "$lost"
    rm -f "$own/repo/objects/info/alternates" "$own/repo/shallow"
    parent=$FOUNDRY_BASE
    seed_from_nothing || return 1
    unreadable
    submodules
    ignored_by_work
    head=$(printf 'tree %s\nparent %s\nauthor %s <%s> %s +0000\ncommitter %s <%s> %s +0000\n\nWork in progress\n' \
        "$tree" "$FOUNDRY_BASE" "$GIT_AUTHOR_NAME" "$GIT_AUTHOR_EMAIL" "$FOUNDRY_DATE" \
        "$GIT_COMMITTER_NAME" "$GIT_COMMITTER_EMAIL" "$FOUNDRY_DATE" | g hash-object -t commit -w --stdin) || return 1
    printf '%s\n' "$head" >"$own/repo/shallow" || return 1
    bundle
}

export GIT_INDEX_FILE="$own/index" parent
tree=
cp "$own/notices" "$own/notices.before"
if [ -z "$lost" ] && ! with_history; then
    lost=damaged
    cp "$own/notices.before" "$own/notices"
fi
[ -z "$lost" ] || without_history || fail 70 'git could not read the work tree'
printf '%s\n' "$head"
print_notices
