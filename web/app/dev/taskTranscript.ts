import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { TranscriptEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { entry, type Said } from '../src/task/test/fakeTask'

let offset = 0
const start = Date.now() - 9 * 60_000

function say(body: Said, rest: { blockId?: string; partNumber?: number; messageId?: string } = {}): TranscriptEntry {
  offset++
  return entry(offset, body, { messageId: 'msg_1', ...rest, createTime: timestampFromMs(start + offset * 2500) })
}

const user = (text: string, messageId = 'msg_1') =>
  say({ case: 'userMessage', value: { text, userId: 'usr_1' } }, { messageId, blockId: messageId })
const tool = (id: string, value: Extract<Said, { case: 'toolCall' }>['value'], partNumber = 0) =>
  say({ case: 'toolCall', value: { ...value, toolCallId: id } }, { blockId: id, partNumber })

const markdown = `The greeting now takes a name. What I did:

1. Added a parameter \`name\` to \`greet\` with the default \`"world"\`.
2. Changed the callers in **src/main.rs**.
3. Added two tests.

\`\`\`rust
pub fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}
\`\`\`

| case | before | after |
|---|---|---|
| no name | \`Hello!\` | \`Hello, world!\` |
| \`Ada\` | – | \`Hello, Ada!\` |

- [x] tests pass
- [ ] the README is not changed yet

See [the guide](https://doc.rust-lang.org/book/) for \`format!\`.`

/** A conversation with every kind of entry. */
export function conversation(): TranscriptEntry[] {
  offset = 0
  const half = Math.floor(markdown.length / 2)
  return [
    user('Greet people by name instead of saying just “Hello”.\nKeep the old behaviour when no name is given.'),
    say(
      {
        case: 'agentThought',
        value: { text: 'The greeting is in src/greet.rs. I will look at it and at its callers first.\nThen change the signature.' },
      },
      { blockId: 't1' },
    ),
    say({
      case: 'plan',
      value: {
        entries: [
          { content: 'Read the greeting and its callers', priority: 'medium', state: 'completed' },
          { content: 'Give it a name', priority: 'high', state: 'completed' },
          { content: 'Run the tests', priority: 'medium', state: 'in_progress' },
          { content: 'Describe the change in the README', priority: 'low', state: 'pending' },
        ],
      },
    }),
    tool('c1', {
      title: 'Read src/greet.rs',
      kind: 'read',
      state: 3,
      locations: ['src/greet.rs'],
      input: '{"path":"src/greet.rs"}',
      output: 'pub fn greet() -> String {\n    "Hello!".into()\n}\n',
    }),
    tool('c2', {
      title: 'Search for callers of greet',
      kind: 'search',
      state: 3,
      locations: ['src/main.rs', 'src/lib.rs', 'tests/greet.rs'],
      input: 'greet(',
      output: 'src/main.rs:4: println!("{}", greet());',
    }),
    tool('c3', {
      title: 'Edit src/greet.rs',
      kind: 'edit',
      state: 2,
      locations: ['src/greet.rs'],
      input: '{"path":"src/greet.rs","edits":[{"old":"pub fn greet()","new":"pub fn greet(name: &str)"}]}',
    }),
    tool(
      'c3',
      {
        title: 'Edit src/greet.rs',
        kind: 'edit',
        state: 3,
        locations: ['src/greet.rs'],
        input: '{"path":"src/greet.rs","edits":[{"old":"pub fn greet()","new":"pub fn greet(name: &str)"}]}',
        output: 'edited',
      },
      1,
    ),
    say({ case: 'permissionRequest', value: { permissionId: 'perm-1', toolCallId: 'c4', title: 'cargo test --workspace', options } }),
    say({ case: 'permissionAnswer', value: { permissionId: 'perm-1', optionId: 'allow', userId: 'usr_1' } }),
    tool('c4', {
      title: 'cargo test --workspace',
      kind: 'execute',
      state: 3,
      output:
        '\u001b[1m\u001b[32m   Compiling\u001b[0m greet v0.1.0\n\u001b[1m\u001b[32m    Finished\u001b[0m test profile in 1.32s\n\u001b[1m\u001b[32m     Running\u001b[0m unittests src/lib.rs\ntest tests::greets_by_name ... \u001b[32mok\u001b[0m\ntest tests::greets_the_world ... \u001b[31mFAILED\u001b[0m',
    }),
    tool('c5', { title: 'cargo clippy', kind: 'execute', state: 4, output: 'error: could not find `cargo-clippy`', truncated: true }),
    say({ case: 'agentMessage', value: { text: markdown.slice(0, half) } }, { blockId: 'a1' }),
    say({ case: 'agentMessage', value: { text: markdown.slice(half) } }, { blockId: 'a1', partNumber: 1 }),
    say({ case: 'turnEnd', value: { outcome: 1, stopReason: 'end_turn' } }),
    user('And now the README.', 'msg_2'),
    say(
      { case: 'notice', value: { kind: 1, message: 'events of the agent are missing here (12 messages): the log was cut' } },
      { messageId: 'msg_2' },
    ),
    say(
      {
        case: 'turnEnd',
        value: { outcome: 3, reason: 'RUNTIME_VANISHED', message: 'The runtime died during the turn; send a message to go on.' },
      },
      { messageId: 'msg_2' },
    ),
    say({ case: 'notice', value: { kind: 2, message: 'The agent restarted and does not remember the text above.' } }, { messageId: '' }),
  ]
}

/** Options of a permission request. */
export const options = [
  { optionId: 'allow', name: 'Allow', kind: 'allow_once' },
  { optionId: 'always', name: 'Always allow cargo', kind: 'allow_always' },
  { optionId: 'reject', name: 'Reject', kind: 'reject_once' },
]

/** What a hostile agent would send. */
export function hostile(): TranscriptEntry[] {
  offset = 0
  const line = 'A'.repeat(4096)
  return [
    user('Say </script><img src=x onerror=alert(1)> please'),
    say(
      {
        case: 'agentMessage',
        value: {
          text: '</script><img src=x onerror=alert(1)>\n\n<iframe src="https://example.org"></iframe>\n\n![a picture](https://example.org/track.png) [click](javascript:alert(1)) [file](file:///etc/passwd) [real](https://example.org/login?next=%2Fhome) <https://example.org>\n\n[https://bank.example](https://evil.example/very/long/path/that/goes/on/and/on/and/on/and/on/and/on/and/ends)',
        },
      },
      { blockId: 'h1' },
    ),
    say(
      {
        case: 'agentMessage',
        value: {
          text: 'RTL override: \u202Egnp.exe\u202C and \u2066isolated\u2069, bell \u0007, null \u0000, escape \u001b[31m.\n\nשלום עולם, זה עברית.\n\nمرحبا بالعالم',
        },
      },
      { blockId: 'h2' },
    ),
    tool('h3', {
      title: 'rm \u202E-rf /\u202C ; echo \u001b[2J',
      kind: 'execute',
      state: 3,
      locations: ['../../etc/\u202Epasswd'],
      output:
        '\u001b[31mred\u001b[0m \u001b[8mhidden\u001b[0m \u001b]8;;https://evil.example\u0007link\u001b]8;;\u0007 \u001b[48;5;196mback\u001b[0m\u001b[2J',
    }),
    ...Array.from({ length: 256 }, (_, part) => say({ case: 'agentMessage', value: { text: line } }, { blockId: 'h4', partNumber: part })),
    say({ case: 'agentMessage', value: { text: '>'.repeat(4000) } }, { blockId: 'h5' }),
    say({ case: 'agentThought', value: { text: 'x'.repeat(4000) } }, { blockId: 'h6' }),
    say({ case: 'permissionRequest', value: { permissionId: 'perm-h', title: '<b>\u202Eallow</b>' + ' very'.repeat(60), options } }),
  ]
}

/** A long transcript: turns of a message, a tool call and an answer. */
export function long(entries: number): TranscriptEntry[] {
  offset = 0
  return Array.from({ length: entries }, (_, at) => {
    const turn = `msg_${Math.floor(at / 10)}`
    if (at % 10 === 0) return user(`Message ${at / 10}`, turn)
    if (at % 10 === 9) return say({ case: 'turnEnd', value: { outcome: 1 } }, { messageId: turn })
    if (at % 2 === 0)
      return tool(`c${at}`, {
        title: `Read src/file${at}.rs`,
        kind: 'read',
        state: 3,
        locations: [`src/file${at}.rs`],
        output: 'fn main() {}',
      })
    return say(
      { case: 'agentMessage', value: { text: `Step ${at}: I looked at **file ${at}** and found nothing to do.\n\n- one\n- two` } },
      { messageId: turn, blockId: `b${at}` },
    )
  })
}
