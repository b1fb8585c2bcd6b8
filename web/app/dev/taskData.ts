import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { ConditionSchema, StageSchema } from '@foundry/client/gen/foundry/common/v1/common_pb'
import { ProcessSchema } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { AuditEventSchema, FileChangeSchema, FileTreeEntrySchema, FindingSchema } from '@foundry/client/gen/foundry/task/v1/task_pb'

const now = Date.now()
const ago = (seconds: number) => timestampFromMs(now - seconds * 1000)
const ahead = (seconds: number) => timestampFromMs(now + seconds * 1000)

const names = ['sandbox_allocated', 'repo_prepared', 'agent_installing', 'agent_starting', 'agent_ready', 'session_creating', 'ready']

/** Stages of which the first `done` are finished; the next one has the given state. */
export function stages(done: number, state = 2, message = '', reason = '') {
  const list = names.map((name, at) =>
    create(StageSchema, {
      name,
      state: at < done ? 4 : at === done ? state : 1,
      attempts: at < done ? 1 : at === done ? (state === 3 || state === 5 ? 3 : 1) : 0,
      startTime: at <= done ? ago(40 - at * 5) : undefined,
      endTime: at < done ? ago(36 - at * 5) : undefined,
      message: at === done ? message : '',
      reason: at === done ? reason : '',
    }),
  )
  if (state === 5) list.push(create(StageSchema, { name: 'error', state: 5, message, reason, startTime: ago(3) }))
  return list
}

/** A condition of a task that waits for its next attempt. */
export const waiting = create(ConditionSchema, {
  reason: 'AGENT_INSTALL_FAILED',
  message: 'the agent could not be installed: the package index did not answer',
  waitingOn: 'agent_installing',
  sinceTime: ago(30),
  attempt: 2,
  maxAttempts: 5,
  nextAttemptTime: ahead(12),
  deadlineTime: ahead(270),
  retryable: true,
})

/** A condition of a task that failed. */
export const failed = create(ConditionSchema, {
  reason: 'GIT_AUTH_REQUIRED',
  message: 'the repository asks for credentials',
  attempt: 3,
  maxAttempts: 3,
  retryable: true,
  nextAction: 'give the repository a credential, then retry the task',
})

/** Changed files of every kind. */
export const files = [
  ['Cargo.lock', 'modified', 400n, 12n, { patchSize: 40_000n }],
  ['assets/logo.png', 'added', 0n, 0n, { binary: true }],
  ['data/big.json', 'modified', 90_000n, 4n, { tooLarge: true, patchSize: 3_400_000n }],
  ['docs/hello.md', 'renamed', 1n, 1n, { oldPath: 'docs/greeting.md' }],
  ['src/greet.rs', 'modified', 9n, 2n, {}],
  ['src/old.rs', 'deleted', 0n, 14n, {}],
  ['tests/\u202Egreet.rs', 'added', 22n, 0n, {}],
].map(([path, kind, additions, deletions, rest]) =>
  create(FileChangeSchema, { path, kind, additions, deletions, patchSize: 900n, ...(rest as object) } as never),
)

/** A patch of a file. */
export function patch(path: string): Uint8Array {
  if (path === 'Cargo.lock') {
    const lines = Array.from({ length: 3000 }, (_, at) => `+name = "crate-${at}"`).join('\n')
    return new TextEncoder().encode(`diff --git a/${path} b/${path}\n--- a/${path}\n+++ b/${path}\n@@ -0,0 +1,3000 @@\n${lines}\n`)
  }
  return new TextEncoder().encode(`diff --git a/${path} b/${path}
index 1111111..2222222 100644
--- a/${path}
+++ b/${path}
@@ -1,9 +1,16 @@ mod greet
 //! Greetings.
 
-pub fn greet() -> String {
-    "Hello!".into()
+/// Greets somebody by name; everybody when there is none. This comment is long so that wrapping can be looked at.
+pub fn greet(name: &str) -> String {
+    let name = if name.is_empty() { "world" } else { name };
+    format!("Hello, {name}!")
 }
 
 #[cfg(test)]
 mod tests {
+    #[test]
+    fn greets_by_name() {
+        assert_eq!(super::greet("Ada"), "Hello, Ada!");
+    }
 }
`)
}

const trees: Record<string, [string, string, bigint?][]> = {
  '': [
    ['docs', 'directory'],
    ['src', 'directory'],
    ['tests', 'directory'],
    ['.gitignore', 'file', 8n],
    ['Cargo.toml', 'file', 120n],
    ['README.md', 'file', 900n],
    ['link', 'symlink'],
    ['vendor', 'submodule'],
  ],
  docs: [['docs/hello.md', 'file', 200n]],
  src: [
    ['src/bin', 'directory'],
    ['src/greet.rs', 'file', 320n],
    ['src/main.rs', 'file', 90n],
  ],
  'src/bin': [],
  tests: [['tests/\u202Egreet.rs', 'file', 500n]],
}

/** A directory of the tree. */
export function tree(path: string) {
  return (trees[path] ?? []).map(([name, kind, size]) => create(FileTreeEntrySchema, { path: name, kind, size: size ?? 0n }))
}

/** Content of a file. */
export const content = new TextEncoder().encode(
  Array.from({ length: 900 }, (_, at) => (at % 7 === 0 ? '' : `    let value_${at} = compute(${at}, "some text"); // line ${at + 1}`)).join(
    '\n',
  ),
)

/** Processes of a sandbox. */
export const processes = [
  [1, 0, 'bwrap --unshare-pid --die-with-parent /bin/sh', 'S', 12n, 2_400_000n],
  [7, 1, 'sandbox-agent server --no-telemetry --port 4000', 'S', 840n, 38_000_000n],
  [41, 7, 'demo-agent', 'R', 3_210n, 12_000_000n],
  [58, 41, 'cargo test --workspace --all-features -- --nocapture \u202Egnp', 'D', 12_000n, 320_000_000n],
].map(([pid, parentPid, command, state, cpuMillis, rssBytes]) =>
  create(ProcessSchema, { pid, parentPid, command, state, cpuMillis, rssBytes } as never),
)

/** Recorded changes. */
export const events = [
  ['usr_1', '', 'session.stop_turn', '{"session":"ses_1"}'],
  ['service:provisioner', 'usr_1', 'task.sandbox_ready', '{}'],
  ['usr_2222222222', '', 'message.send', '{"size":52}'],
  ['usr_1', '', 'task.create', '{"repository":"repo_1","agent":"demo"}'],
].map(([actor, onBehalfOf, action, detail], at) =>
  create(AuditEventSchema, { sequence: BigInt(90 - at), actor, onBehalfOf, action, detail, createTime: ago(60 + at * 200) }),
)

/** What explains a task. */
export const findings = [
  create(FindingSchema, {
    subject: 'task task_1',
    state: 'creating sandbox',
    explanation: 'The agent is being installed.',
    condition: waiting,
  }),
  create(FindingSchema, {
    subject: 'sandbox sbx_1',
    state: 'installing agent',
    explanation: 'The second of at most five attempts failed.',
  }),
  create(FindingSchema, {
    subject: 'session ses_1',
    state: 'pending_provision',
    explanation: 'It waits for the sandbox. One message waits.',
  }),
  create(FindingSchema, { subject: 'repository repo_1', state: 'ready', explanation: 'The mirror is up to date.' }),
]
