content=$(mktemp) || exit 1
trap 'rm -f "$content"' EXIT
cat >"$content" || exit 1
object=
if [ "$(wc -c <"$content")" -lt 1024 ] &&
    head -n 1 "$content" | grep -qxF 'version https://git-lfs.github.com/spec/v1'; then
    id=$(sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p' "$content")
    object=$FOUNDRY_LFS_OBJECTS/${id%"${id#??}"}/$(printf %s "$id" | cut -c 3-4)/$id
    [ ${#id} = 64 ] && [ -f "$object" ] || object=
fi
cat "${object:-$content}"
