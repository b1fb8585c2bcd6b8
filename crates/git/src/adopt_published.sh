# Runs inside a sandbox before a turn: moves the agent's branch to what was published of its work, if nothing has
# changed since that work was handed over. Files that the agent had not committed are committed then, in the very commit
# that the remote has, so that git can merge what others push there. No file of the tree is written, unless the published
# commit has other files than the work, as after a restack: then the tree gets these. `ORIG_HEAD` is the commit that the
# branch was at.
#
# Files, index and HEAD cannot change at once. `foundry-adopt` in the directory of git says what a run was about to do, so that
# the next one finishes what was cut off, unless the agent has changed those files or moved its branch since.
#
# In (environment): FOUNDRY_TREE work tree, FOUNDRY_WORK head of the hand-over that was published, FOUNDRY_PUBLISHED
# commit that was made of it, FOUNDRY_WORK_TREE tree of the hand-over if the published commit has another one,
# FOUNDRY_BRANCH branch of `origin` that has it, FOUNDRY_DATE as in `work_bundle.sh`.
# Out: `moved`, or `kept` with the reason. Exit: 0.
set -u
kept() { printf 'kept %s\n' "$1"; exit 0; }
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_COMMON_DIR \
    GIT_NAMESPACE GIT_CONFIG_PARAMETERS GIT_PREFIX GIT_TRACE
export LC_ALL=C GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0 GIT_NO_REPLACE_OBJECTS=1

cd "$FOUNDRY_TREE" 2>/dev/null || kept 'the work tree is gone'
# Never a repository further up.
GIT_CEILING_DIRECTORIES=$(dirname "$(pwd -P)")
export GIT_CEILING_DIRECTORIES
g() {
    git -c 'safe.directory=*' -c core.hooksPath=/dev/null -c core.fsmonitor=false -c submodule.recurse=false \
        -c gc.auto=0 -c maintenance.auto=false "$@" 2>/dev/null
}

git_dir=$(g rev-parse --path-format=absolute --git-dir) || kept 'there is no repository'
index=$(g rev-parse --path-format=absolute --git-path index) || kept 'there is no repository'
head=$(g rev-parse --verify --quiet 'HEAD^{commit}') || kept 'there is no commit'
g symbolic-ref --quiet HEAD >/dev/null || kept 'no branch is checked out'

# Each file that was to change must be what it was, what it becomes, a beginning of that, or gone: then nothing of the agent's
# is lost.
ours() {
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' xargs -0 -n 2 sh -c '
        path=$2; set -- $1
        if [ ! -e "./$path" ] && [ ! -L "./$path" ]; then exit 0; fi
        if [ -L "./$path" ]; then id=$(readlink -n "./$path" | git hash-object --stdin)
        elif [ -d "./$path" ]; then exit 0
        else id=$(git hash-object -- "$path"); fi || exit 255
        if [ "$id" = "$3" ] || [ "$id" = "$4" ]; then exit 0; fi
        git cat-file blob "$4" 2>/dev/null | head -c "$(wc -c <"./$path")" | cmp -s - "./$path" || exit 255' sh \
        <"$intent/changes" 2>/dev/null
}
# Writes the files of the published commit, those that are gone first.
written() {
    xargs -0 -n 2 sh -c '
        path=$2; set -- $1
        # A directory in the place of a file must be empty by now.
        if [ -z "$path" ]; then exit 0; fi
        if [ "$5" != D ]; then
            [ "$2" = 160000 ] || [ -L "./$path" ] || [ ! -d "./$path" ] || rmdir "./$path" || exit 255
            exit 0
        fi
        rm -f "./$path" && case $path in */*) rmdir -p "${path%/*}" 2>/dev/null;; esac; :' sh <"$intent/changes" || return 1
    (
        GIT_INDEX_FILE="$intent/index"; export GIT_INDEX_FILE
        g read-tree "$FOUNDRY_PUBLISHED" || exit 1
        xargs -0 -n 2 sh -c '
            path=$2; set -- $1
            if [ -z "$path" ] || [ "$5" = D ]; then exit 0; fi
            printf "%s\0" "$path"' sh <"$intent/changes" | g checkout-index -f -z --stdin
    )
}
# Undoes what git has written of the published commit before it failed, unless something else has written there too.
put_back() {
    ours || return 1
    xargs -0 -n 2 sh -c '
        path=$2; set -- $1
        if [ -z "$path" ] || [ "$5" != A ]; then exit 0; fi
        if [ "$2" = 160000 ]; then rmdir "./$path" 2>/dev/null || exit 0; else rm -f "./$path"; fi
        case $path in */*) rmdir -p "${path%/*}" 2>/dev/null;; esac; :' sh <"$intent/changes"
    xargs -0 -n 2 sh -c '
        path=$2; set -- $1
        if [ -z "$path" ] || [ "$5" = A ]; then exit 0; fi
        printf "%s\0" "$path"' sh <"$intent/changes" | g checkout-index -f -z --stdin
}
names() { tr '\n\000' '\001\n' | sort; }
unfinished() {
    for state in rebase-merge rebase-apply MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD BISECT_LOG; do
        [ ! -e "$git_dir/$state" ] || kept 'an operation is unfinished'
    done
}
# What the index alone has, it has lost when it is replaced.
index_alone() {
    [ -z "$(g ls-files --unmerged | head -c 1)" ] || kept 'files are in conflict'
    ! g ls-files -v | grep -q '^[a-zS]' || kept 'the index hides files'
}
own=$(mktemp -d) || kept 'there is no room'
trap 'rm -rf "$own"' EXIT
# Whether a git of the agent is at work in this tree, as a process that it has left in the background.
git_runs() {
    here=$(pwd -P)
    for process in /proc/[0-9]*; do
        { read -r program <"$process/comm"; } 2>/dev/null || continue
        case $program in git | git-*) ;; *) continue ;; esac
        case $(readlink "$process/cwd" 2>/dev/null)/ in "$here"/*) return 0 ;; esac
    done
    return 1
}
# Whether the index has a file in a state that is neither in the tree nor what the cut-off run began with or was to write.
staged_since() (
    cp -p "$index" "$own/index" 2>/dev/null || exit 0
    export GIT_INDEX_FILE="$own/index"
    g update-index -q --refresh >/dev/null
    {
        g diff-files --name-only -z | tr '\n\000' '\001\n' | sed 's/^/unstaged /'
        tr '\n\000' '\001\n' <"$intent/changes" | awk 'NR % 2 { split($0, of, " "); next } { print "change", of[3], of[4], $0 }'
        g diff-index --cached --no-renames --no-abbrev -z HEAD | tr '\n\000' '\001\n' | awk 'NR % 2 { split($0, of, " "); next } { print "staged", of[4], $0 }'
    } | awk '
        $1 == "unstaged" { sub(/^unstaged /, ""); unstaged[$0] = 1; next }
        $1 == "change" { was = $2; becomes = $3; sub(/^change [^ ]* [^ ]* /, ""); old[$0] = was; new[$0] = becomes; next }
        { id = $2; sub(/^staged [^ ]* /, ""); if ($0 in unstaged && id != old[$0] && id != new[$0]) alone = 1 }
        END { exit !alone }'
)
intent=$git_dir/foundry-adopt
if [ -d "$intent" ]; then
    if [ "$head" = "$(cat "$intent/head" 2>/dev/null)" ] && [ "$FOUNDRY_PUBLISHED" = "$(cat "$intent/published" 2>/dev/null)" ] &&
        g cat-file -e "$FOUNDRY_PUBLISHED^{commit}" && ours; then
        # The agent may have begun something since. Then the rest waits until that is finished.
        unfinished
        index_alone
        ! staged_since || kept 'files have changed since they were staged'
        # Left by the git of the run that was cut off.
        [ ! -e "$index.lock" ] || ! git_runs || kept 'an operation is unfinished'
        rm -f "$index.lock"
        written && g reset --quiet --mixed "$FOUNDRY_PUBLISHED" || kept 'git refuses'
        rm -rf "$intent"
        echo moved
        exit 0
    fi
    rm -rf "$intent"
fi
[ "$head" != "$FOUNDRY_PUBLISHED" ] || kept 'it is there already'
unfinished
[ ! -e "$git_dir/index.lock" ] || kept 'an operation is unfinished'
[ -f "$index" ] || kept 'there is no index'

if ! g cat-file -e "$FOUNDRY_PUBLISHED^{commit}"; then
    g fetch --quiet --no-tags origin "refs/heads/$FOUNDRY_BRANCH" || kept 'origin cannot be fetched from'
    g cat-file -e "$FOUNDRY_PUBLISHED^{commit}" || kept 'origin does not have it'
fi

# What was handed over is the head itself, or the tree as a commit on it.
if [ "$head" != "$FOUNDRY_WORK" ]; then
    tree=$FOUNDRY_WORK_TREE
    [ -n "$tree" ] || tree=$(g rev-parse --verify --quiet "$FOUNDRY_PUBLISHED^{tree}") || kept 'origin does not have it'
    of='Foundry <foundry@localhost>'
    work=$(printf 'tree %s\nparent %s\nauthor %s %s +0000\ncommitter %s %s +0000\n\nWork in progress\n' \
        "$tree" "$head" "$of" "$FOUNDRY_DATE" "$of" "$FOUNDRY_DATE" | g hash-object -t commit --stdin)
    [ "$work" = "$FOUNDRY_WORK" ] || kept 'the branch has moved'
fi

# The index is replaced, so nothing may be in it alone.
index_alone
cp -p "$index" "$own/index" 2>/dev/null || kept 'there is no room'
export GIT_INDEX_FILE="$own/index"
# Says what is about to be done; stdin: the files that change, as `diff-tree -r -z` has them.
intended() {
    rm -rf "$intent.new" && mkdir "$intent.new" && cat >"$intent.new/changes" &&
        echo "$head" >"$intent.new/head" && echo "$FOUNDRY_PUBLISHED" >"$intent.new/published" &&
        mv "$intent.new" "$intent"
}
g update-index -q --refresh >/dev/null
g diff-index --cached --name-only -z HEAD | names >"$own/staged"
g diff-files --name-only -z | names >"$own/unstaged"
[ -z "$(comm -12 "$own/staged" "$own/unstaged" | head -c 1)" ] || kept 'files have changed since they were staged'
if [ -z "$FOUNDRY_WORK_TREE" ]; then
    g read-tree -i -m "$FOUNDRY_PUBLISHED" || kept 'the index cannot be read'
    g update-index -q --refresh >/dev/null
    g diff-files --quiet --ignore-submodules=all || kept 'files have changed'
    unset GIT_INDEX_FILE
    intended </dev/null || kept 'there is no room'
    g reset --quiet --mixed "$FOUNDRY_PUBLISHED" || { rm -rf "$intent"; kept 'git refuses'; }
    rm -rf "$intent"
    echo moved
    exit 0
fi

# The tree as it is must be what was handed over; its objects need not be in the agent's repository.
objects=$(g rev-parse --path-format=absolute --git-path objects) || kept 'there is no repository'
mkdir "$own/objects" || kept 'there is no room'
export GIT_OBJECT_DIRECTORY="$own/objects" GIT_ALTERNATE_OBJECT_DIRECTORIES="$objects"
g add --all -- . || kept 'files cannot be read'
[ "$(g write-tree)" = "$FOUNDRY_WORK_TREE" ] || kept 'files have changed'
# Nothing is written if a file that git does not know is in the way, ignored ones too.
g diff-tree -r -z --no-renames --diff-filter=A --name-only "$FOUNDRY_WORK_TREE" "$FOUNDRY_PUBLISHED" | xargs -0 sh -c '
    for path do
        if [ -e "./$path" ] || [ -L "./$path" ]; then exit 255; fi
        while [ "$path" != "${path%/*}" ]; do
            path=${path%/*}
            if [ -L "./$path" ] || { [ -e "./$path" ] && [ ! -d "./$path" ]; }; then exit 255; fi
        done
    done' sh 2>/dev/null || kept 'files are in the way'
g diff-tree -r -z --no-renames "$FOUNDRY_WORK_TREE" "$FOUNDRY_PUBLISHED" >"$own/changes" || kept 'git refuses'
intended <"$own/changes" || kept 'there is no room'
g read-tree -m -u "$FOUNDRY_WORK_TREE" "$FOUNDRY_PUBLISHED" || { put_back; rm -rf "$intent"; kept 'files cannot be written'; }
unset GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_INDEX_FILE
if ! g reset --quiet --mixed "$FOUNDRY_PUBLISHED"; then
    export GIT_OBJECT_DIRECTORY="$own/objects" GIT_ALTERNATE_OBJECT_DIRECTORIES="$objects" GIT_INDEX_FILE="$own/index"
    g read-tree -m -u "$FOUNDRY_PUBLISHED" "$FOUNDRY_WORK_TREE"
    rm -rf "$intent"
    kept 'git refuses'
fi
rm -rf "$intent"
echo moved
