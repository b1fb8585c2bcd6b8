# Runs inside a sandbox: commits the work tree as it is, untracked files included, and writes a
# bundle of what is not in the base. The agent's index, HEAD, refs and configuration stay as they
# are: all is written to a repository of our own that borrows the agent's objects.
#
# In (environment): FOUNDRY_TREE work tree, FOUNDRY_BASE recorded base commit, FOUNDRY_REF ref in
# the bundle, FOUNDRY_BUNDLE file to write, FOUNDRY_DATE seconds since the epoch.
# Out: the head commit on standard output; it equals the base when nothing changed (no bundle then).
# Exit: 0, 64 bad parameters, 65 no git, 66 repository gone, 67 base gone, 70 git failed.
set -u
umask 077
say() { printf '%s\n' "$*" >&2; }
fail() { code=$1; shift; say "$*"; exit "$code"; }

: "${FOUNDRY_TREE:=}" "${FOUNDRY_BASE:=}" "${FOUNDRY_REF:=}" "${FOUNDRY_BUNDLE:=}" "${FOUNDRY_DATE:=}"
case $FOUNDRY_TREE in /*) ;; *) fail 64 'FOUNDRY_TREE is not an absolute path' ;; esac
case $FOUNDRY_BUNDLE in /*) ;; *) fail 64 'FOUNDRY_BUNDLE is not an absolute path' ;; esac
case $FOUNDRY_REF in refs/foundry/work/?*) ;; *) fail 64 'FOUNDRY_REF is not a work ref' ;; esac
case $FOUNDRY_BASE in '' | *[!0-9a-f]*) fail 64 'FOUNDRY_BASE is not a commit id' ;; esac
case $FOUNDRY_DATE in '' | *[!0-9]*) fail 64 'FOUNDRY_DATE is not a number of seconds' ;; esac
command -v git >/dev/null 2>&1 || fail 65 'git is not installed in the sandbox'

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR \
    GIT_NAMESPACE GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT GIT_PREFIX GIT_TRACE GIT_EXTERNAL_DIFF
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_ATTR_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0 \
    GIT_NO_REPLACE_OBJECTS=1 GIT_LITERAL_PATHSPECS=1 GIT_OPTIONAL_LOCKS=0
# The tree may belong to another user of the sandbox.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory 'GIT_CONFIG_VALUE_0=*'

cd "$FOUNDRY_TREE" 2>/dev/null || fail 66 'the work tree is gone'
[ -e .git ] || fail 66 'the repository (.git) is gone from the work tree'
# Never a repository further up.
GIT_CEILING_DIRECTORIES=$(dirname "$(pwd -P)")
export GIT_CEILING_DIRECTORIES
common=$(git rev-parse --path-format=absolute --git-common-dir 2>/dev/null) || fail 66 'the repository (.git) is damaged'
index=$(git rev-parse --path-format=absolute --git-path index) || fail 66 'the repository (.git) is damaged'
format=$(git rev-parse --show-object-format) || fail 66 'the repository (.git) is damaged'
git cat-file -e "$FOUNDRY_BASE^{commit}" 2>/dev/null || fail 67 'the base commit is gone from the repository'
# On an unborn branch the work hangs on the base.
parent=$(git rev-parse --verify --quiet 'HEAD^{commit}') || parent=$FOUNDRY_BASE

# Beside the bundle, so that it is renamed into place; what a killed run left behind goes, its locks too.
rm -rf -- "$FOUNDRY_BUNDLE".?*
own=$(mktemp -d "$FOUNDRY_BUNDLE.XXXXXX") || fail 70 'cannot create a temporary directory'
trap 'rm -rf "$own"' EXIT
trap 'exit 70' HUP INT TERM
git init --quiet --bare --template= --object-format="$format" "$own/repo" >/dev/null || fail 70 'git init failed'
printf '%s\n' "$common/objects" >"$own/repo/objects/info/alternates" || fail 70 'cannot write'
[ ! -f "$common/shallow" ] || cp "$common/shallow" "$own/repo/shallow" || fail 70 'cannot copy'

export GIT_DIR="$own/repo" GIT_WORK_TREE="$PWD"
export GIT_AUTHOR_NAME=Foundry GIT_AUTHOR_EMAIL=foundry@localhost GIT_AUTHOR_DATE="@$FOUNDRY_DATE +0000"
export GIT_COMMITTER_NAME=Foundry GIT_COMMITTER_EMAIL=foundry@localhost GIT_COMMITTER_DATE="@$FOUNDRY_DATE +0000"
g() {
    git -c core.bare=false -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.untrackedCache=false \
        -c core.attributesFile=/dev/null -c core.excludesFile="$common/info/exclude" -c core.splitIndex=false \
        -c gc.auto=0 -c advice.addEmbeddedRepo=false -c submodule.recurse=false "$@"
}

# Starts from a copy of the agent's index, which saves hashing unchanged files and knows files that
# were added in spite of .gitignore; -p keeps its time, by which git tells what is racy. An index
# that cannot be used is rebuilt from the commit.
seed_from_index() {
    [ -f "$index" ] && cp -p "$index" "$own/index" 2>/dev/null && chmod u+w "$own/index" &&
        { g update-index -q --really-refresh >/dev/null 2>&1 || :; } && stage && tree=$(g write-tree 2>/dev/null)
}
seed_from_commit() {
    rm -f "$own/index" "$own/index.lock"
    g read-tree "$parent" && stage && tree=$(g write-tree)
}

# `git add` takes a repository inside the tree for a submodule, or fails when it has no commit. Its
# files are part of the work, so they are added as files; real submodules stay what they are.
stage() {
    g add --all --ignore-errors -- . 2>"$own/add.log" || cat "$own/add.log" >&2
    rm -f "$own/nested"
    find . -mindepth 2 -name .git -prune -exec sh -c '
        for dot_git do
            nested=${dot_git#./}; nested=${nested%/.git}
            printf "%s\0" "$nested"
        done' sh {} + >"$own/nested" 2>/dev/null
    [ -s "$own/nested" ] || return 0
    export own parent common
    xargs -0 -n 1 sh -c '
        nested=$1
        set -u
        is_link() { git ls-tree "$1" -- "$nested" | grep -q "^160000 "; }
        if is_link "$FOUNDRY_BASE" || is_link "$parent"; then exit 0; fi
        # This command knows no literal pathspecs; with ./ in front no name is magic.
        GIT_LITERAL_PATHSPECS=0 git -c core.excludesFile="$common/info/exclude" \
            check-ignore -q --no-index -- "./$nested" && exit 0
        printf "%s\n" "a repository inside the tree is taken as plain files: $nested" >&2
        git update-index --force-remove -- "$nested"
        git -c core.excludesFile="$common/info/exclude" rm -r -q --cached --ignore-unmatch -- "$nested" >/dev/null
        rm -f "$own/sub"
        sub=$(
            cd "./$nested" && GIT_WORK_TREE=$(pwd) GIT_INDEX_FILE="$own/sub" && export GIT_WORK_TREE GIT_INDEX_FILE &&
                git -c core.bare=false -c core.fsmonitor=false -c core.hooksPath=/dev/null \
                    -c core.excludesFile="$common/info/exclude" add --all --ignore-errors -- . >&2
            git write-tree
        ) || exit 255
        [ "$(git cat-file -s "$sub")" = 0 ] || git read-tree --prefix="$nested/" "$sub" || exit 255
    ' sh <"$own/nested" || return 1
}

export GIT_INDEX_FILE="$own/index"
tree=
seed_from_index || seed_from_commit || fail 70 'git could not read the work tree'

# An agent that went back behind the base leaves a tree that differs from the base.
if [ "$parent" != "$FOUNDRY_BASE" ] && g merge-base --is-ancestor "$parent" "$FOUNDRY_BASE"; then
    parent=$FOUNDRY_BASE
fi
if [ "$tree" = "$(g rev-parse "$parent^{tree}")" ]; then
    head=$parent
else
    head=$(printf 'Work in progress\n' | g commit-tree -p "$parent" "$tree") || fail 70 'git commit-tree failed'
fi
if [ "$head" = "$FOUNDRY_BASE" ]; then
    rm -f "$FOUNDRY_BUNDLE"
else
    g update-ref "$FOUNDRY_REF" "$head" || fail 70 'git update-ref failed'
    # Renamed into place, so that nobody reads a half-written bundle.
    g -c pack.threads=1 bundle create --quiet "$own/bundle" "$FOUNDRY_REF" "^$FOUNDRY_BASE" >&2 ||
        fail 70 'git bundle failed'
    mv -f "$own/bundle" "$FOUNDRY_BUNDLE" || fail 70 'cannot move the bundle into place'
fi
printf '%s\n' "$head"
