#!/usr/bin/env python3
"""Measures the shape of the sources, so that a change can be told by figures.

usage: scripts/measure.py [--top N] [ROOT]

Code lines are lines without blanks, comments and tests. Tests are files of test code by their place (`tests/`, `*_tests.rs`,
`*.test.ts`, `*.story.ts`, `testing/`, test crates) and everything from `#[cfg(test)] mod … {` on in other files. What is
read is text, not syntax: figures are good for comparing two trees, not for their own sake.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys

TEST_CRATES = {"testkit", "scripted-model", "fault-provider"}
TEST_PLACES = {"tests", "testing", "stories", "test", "bench", "faulty", "examples", "dev", "proofs"}
RUN = 6  # lines that make a duplicate


def is_test(path):
    parts = path.parts
    name = path.name
    return (
        any(part in TEST_PLACES for part in parts[:-1])
        or (len(parts) > 1 and parts[0] == "crates" and parts[1] in TEST_CRATES)
        or re.search(r"(_tests?|^tests|^testing|\.test|\.story)\.(rs|tsx?)$", name) is not None
    )


def sources(root):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    for name in sorted(listed.decode().split("\0")):
        path = pathlib.PurePath(name)
        if path.suffix in {".rs", ".ts", ".tsx"} and not name.endswith(".d.ts"):
            yield path


def code(text, rust):
    """(line number, line) of code lines without tests, blanks and comments."""
    block = False
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if rust and bare.startswith("#[cfg(test)]"):
            rest = text.splitlines()[number:]
            following = next((r.strip() for r in rest if r.strip()), "")
            if following.startswith("mod ") and following.endswith("{"):
                return
        if block:
            block = "*/" not in bare
            continue
        if bare.startswith("/*"):
            block = "*/" not in bare
            continue
        if bare and not bare.startswith("//"):
            yield number, bare


def functions(lines, rust):
    """Lengths of functions, by the indentation of their first and last lines."""
    start = re.compile(r"^(\s*)(pub(\([^)]*\))? )?(async )?fn \w" if rust else r"^(\s*)(export )?(async )?function \w")
    lengths, opened = [], None
    for number, line in enumerate(lines):
        if opened is None and (found := start.match(line)):
            opened = (number, found.group(1))
        if opened is not None and line.startswith(opened[1] + "}") and number > opened[0]:
            lengths.append(number - opened[0] + 1)
            opened = None
    return lengths


def percentiles(values):
    values = sorted(values) or [0]
    at = lambda p: values[min(len(values) - 1, int(len(values) * p))]  # noqa: E731
    return f"p50 {at(0.5)}, p90 {at(0.9)}, p99 {at(0.99)}, max {values[-1]}"


def duplicates(files):
    """Pairs of places with the same run of lines; longer runs count once."""
    places = collections.defaultdict(list)
    for path, lines in files.items():
        texts = [line for _, line in lines]
        for at in range(len(texts) - RUN + 1):
            run = texts[at : at + RUN]
            if sum(len(line) for line in run) > 100 and not all(line.startswith(("use ", "import ", "pub use ")) for line in run):
                places["\n".join(run)].append((path, at))
    pairs = {}
    for found in places.values():
        for one in range(len(found)):
            for other in range(one + 1, min(len(found), one + 6)):
                (p, i), (q, j) = found[one], found[other]
                pairs.setdefault((p, q, i - j), []).append(i)
    return sorted(((len(at) + RUN - 1, str(p), str(q)) for (p, q, _), at in pairs.items()), reverse=True)


def module_of(path):
    parts = list(path.with_suffix("").parts)
    return tuple(parts[:-1] if parts[-1] in {"mod", "lib", "main"} else parts)


def circles(rust):
    """Strongly connected files of each crate, by their paths in `use` and in code."""
    modules = {module_of(path): path for path in rust}
    edges = collections.defaultdict(set)
    for path, text in rust.items():
        own = module_of(path)
        crate = own[: own.index("src") + 1] if "src" in own else own[:1]
        for base, rest in re.findall(r"\b(crate|super|self)((?:::\w+)+|::\{)", text):
            start = {"crate": crate, "super": own[:-1], "self": own}[base]
            target = start
            for part in re.findall(r"\w+", rest):
                while part == "super" and len(target) > len(crate):
                    target = target[:-1]
                    part = ""
                if part and target + (part,) in modules:
                    target += (part,)
            # A parent that declares its children is no circle, and neither is a child that names its parent's room.
            if target in modules and target != own and target != own[: len(target)] and own != target[: len(own)]:
                edges[own].add(target)
    index, low, stack, on, found, counter = {}, {}, [], set(), [], [0]

    def connect(node):
        work = [(node, iter(sorted(edges[node])))]
        index[node] = low[node] = counter[0]
        counter[0] += 1
        stack.append(node)
        on.add(node)
        while work:
            at, following = work[-1]
            for to in following:
                if to not in index:
                    index[to] = low[to] = counter[0]
                    counter[0] += 1
                    stack.append(to)
                    on.add(to)
                    work.append((to, iter(sorted(edges[to]))))
                    break
                if to in on:
                    low[at] = min(low[at], index[to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[at])
                if low[at] == index[at]:
                    group = []
                    while True:
                        one = stack.pop()
                        on.discard(one)
                        group.append(one)
                        if one == at:
                            break
                    if len(group) > 1:
                        found.append(group)

    for node in modules:
        if node not in index:
            connect(node)
    return sorted(found, key=len, reverse=True)


def unused_exports(rust, everything):
    """Public functions, types and constants of library crates that neither another crate, nor a test, nor the signature
    of another public item names. What a macro or a trait's type needs is counted, too."""
    words = collections.defaultdict(set)
    signatures = collections.defaultdict(str)
    for path, text in everything.items():
        place = path.parts[:2] if path in rust else "tests"
        for word in set(re.findall(r"\b\w+\b", text)):
            words[word].add(place)
        if path in rust:
            lines = (line.strip() for line in text.splitlines())
            signatures[path.parts[:2]] += "".join(f"{line}\n" for line in lines if re.match(r"(pub |fn |async fn |\) ->|\w+: )", line) and not line.startswith("pub use"))
    unused = []
    for path, text in rust.items():
        if path.parts[0] != "crates" or path.parts[1] in TEST_CRATES or "src" not in path.parts:
            continue
        for name in re.findall(r"^pub (?:async |unsafe |const )?(?:fn|struct|enum|trait|static|const|type) (\w+)", text, re.M):
            if words[name] <= {path.parts[:2]} and len(re.findall(rf"\b{name}\b", signatures[path.parts[:2]])) < 2:
                unused.append(f"{path}: {name}")
    return unused


def doc_comments(text):
    """The doc comments of items, each as one text, and each of their sections `# Errors` as one more."""
    comment = []
    for line in [*text.splitlines(), ""]:
        bare = line.strip()
        if bare.startswith("///"):
            comment.append(bare[3:].strip())
        elif comment:
            for part in " ".join(comment).split("# Errors"):
                if part.strip():
                    yield part.strip()
            comment = []


def tree(root, package):
    found = subprocess.run(
        ["cargo", "tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none", "--no-dedupe"],
        cwd=root, capture_output=True, text=True,
    )
    if found.returncode != 0:
        return "cargo tree failed"
    names = {line.split(" (")[0].strip() for line in found.stdout.splitlines() if line.strip()}
    return f"{len(names)} packages{', sqlx among them' if any(n.startswith('sqlx') for n in names) else ''}"


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--top", type=int, default=10, help="how many of the worst to list")
    options.add_argument("root", nargs="?", default=".")
    options = options.parse_args()
    root = pathlib.Path(options.root)
    texts = {path: (root / path).read_text(errors="replace") for path in sources(root)}
    product = {path: text for path, text in texts.items() if not is_test(path)}
    lines = {path: list(code(text, path.suffix == ".rs")) for path, text in product.items()}
    for language, suffixes in (("Rust", {".rs"}), ("TypeScript", {".ts", ".tsx"})):
        chosen = [path for path in product if path.suffix in suffixes]
        lengths = []
        for path in chosen:
            last = lines[path][-1][0] if lines[path] else 0
            lengths += functions(product[path].splitlines()[:last], language == "Rust")
        print(f"{language}: {sum(len(lines[p]) for p in chosen)} code lines in {len(chosen)} files")
        print(f"  lines of a file:     {percentiles([len(lines[p]) for p in chosen])}")
        print(f"  lines of a function: {percentiles(lengths)}")
    rust = {path: text for path, text in product.items() if path.suffix == ".rs"}
    short = [f"{path}: {doc}" for path, text in rust.items() for doc in doc_comments(text) if len(doc.split()) <= 2]
    print(f"doc comments of at most two words: {len(short)}")
    pairs = duplicates(lines)
    print(f"pairs of places with {RUN} or more equal lines: {len(pairs)}")
    for length, one, other in pairs[: options.top]:
        print(f"  {length:3} lines  {one}  {other}")
    groups = circles(rust)
    print(f"circles of files: {len(groups)}, of more than three: {sum(len(g) > 3 for g in groups)}")
    for group in groups[: options.top]:
        print(f"  {len(group):3} files  {'/'.join(min(group))} …")
    unused = unused_exports(rust, texts)
    print(f"exports that nothing outside their crate needs: {len(unused)}")
    for export in unused[: options.top]:
        print(f"  {export}")
    for package in ("foundry-gateway", "foundry-authn"):
        print(f"dependencies of {package}: {tree(root, package)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
