import { describe, expect, it } from 'vitest'
import { entry, type Said } from '../test/fakeTask'
import type { Block } from './blocks'
import { Transcript } from './fold'

const say = (offset: number, text: string, blockId: string, partNumber: number) =>
  entry(offset, { case: 'agentMessage', value: { text } }, { blockId, partNumber })
const tool = (offset: number, state: number, partNumber: number, output = '') =>
  entry(offset, { case: 'toolCall', value: { toolCallId: 'c1', title: 'Run', state, output } }, { blockId: 'c1', partNumber })

function blocks(transcript: Transcript): Block[] {
  return Array.from({ length: transcript.length }, (_, at) => transcript.at(at) as Block)
}

function texts(transcript: Transcript): string[] {
  return blocks(transcript).map((block) => ('text' in block ? block.text : block.kind))
}

describe('a transcript', () => {
  it('makes one block of the parts of a streamed message', () => {
    const transcript = new Transcript()
    transcript.append([say(1, 'Hel', 'a', 0), say(2, 'lo', 'a', 1), say(3, 'Next', 'b', 0)])
    expect(texts(transcript)).toEqual(['Hello', 'Next'])
  })

  it('replaces only the block that goes on', () => {
    const transcript = new Transcript()
    transcript.append([say(1, 'One', 'a', 0), say(2, 'Two', 'b', 0)])
    const [first, second] = blocks(transcript)
    transcript.append([say(3, ' and more', 'b', 1)])
    expect(transcript.at(0)).toBe(first)
    expect(transcript.at(1)).not.toBe(second)
    expect(transcript.at(1)?.key).toBe(second?.key)
  })

  it('passes over entries that it has already', () => {
    const transcript = new Transcript()
    transcript.append([say(1, 'Once', 'a', 0)])
    transcript.append([say(1, 'Once', 'a', 0), say(2, ' only', 'a', 1)])
    expect(texts(transcript)).toEqual(['Once only'])
  })

  it('keeps thoughts, words and messages of one block id apart', () => {
    const transcript = new Transcript()
    transcript.append([
      entry(1, { case: 'agentThought', value: { text: 'thought' } }, { blockId: 'x' }),
      entry(2, { case: 'agentMessage', value: { text: 'word' } }, { blockId: 'x' }),
    ])
    expect(texts(transcript)).toEqual(['thought', 'word'])
  })

  it('shows a tool call where it began, as it is now', () => {
    const transcript = new Transcript()
    transcript.append([tool(1, 2, 0), say(2, 'meanwhile', 'a', 0), tool(3, 3, 1, 'done')])
    const [call, words] = blocks(transcript)
    expect(call).toMatchObject({ kind: 'tool', offset: 1, call: { state: 3, output: 'done' } })
    expect(words?.kind).toBe('agent')
    expect(transcript.length).toBe(2)
  })

  it('takes the reuse of a finished tool call id for another call', () => {
    const transcript = new Transcript()
    transcript.append([tool(1, 3, 0, 'first'), tool(2, 2, 0, 'second')])
    expect(transcript.length).toBe(2)
  })

  it('shows the newest plan of a turn, and one plan per turn', () => {
    const plan = (offset: number, content: string, messageId: string) =>
      entry(offset, { case: 'plan', value: { entries: [{ content }] } }, { messageId })
    const transcript = new Transcript()
    transcript.append([plan(1, 'old', 'm1'), plan(2, 'new', 'm1'), plan(3, 'other', 'm2')])
    const shown = blocks(transcript).map((block) => block.kind === 'plan' && block.plan.entries[0]?.content)
    expect(shown).toEqual(['new', 'other'])
  })

  it('joins an answer with its question', () => {
    const transcript = new Transcript()
    transcript.append([asked(1), answered(2)])
    expect(blocks(transcript)).toMatchObject([{ kind: 'permission', answer: { optionId: 'allow', userId: 'usr_1' } }])
  })

  it('finds the question of an answer on an older page', () => {
    const transcript = new Transcript()
    transcript.append([answered(2)])
    expect(transcript.length).toBe(0)
    transcript.prepend([asked(1)])
    expect(blocks(transcript)).toMatchObject([{ kind: 'permission', answer: { optionId: 'allow' } }])
  })

  it('joins a block that a page cuts, and keeps its key so that the place on the screen is kept', () => {
    const transcript = new Transcript()
    transcript.append([say(3, 'world', 'a', 2), say(4, 'after', 'b', 0)])
    const key = transcript.keyAt(0)
    expect(transcript.at(0)?.cutStart).toBe(true)
    transcript.prepend([say(1, 'Hello', 'a', 0), say(2, ', ', 'a', 1)])
    expect(texts(transcript)).toEqual(['Hello, world', 'after'])
    expect(transcript.keyAt(0)).toBe(key)
    expect(transcript.at(0)).toMatchObject({ offset: 1, cutStart: false })
  })

  it('goes on with a block that was joined over a page', () => {
    const transcript = new Transcript()
    transcript.append([say(3, 'c', 'a', 2)])
    transcript.prepend([say(2, 'b', 'a', 1)])
    transcript.prepend([say(1, 'a', 'a', 0)])
    transcript.append([say(4, 'd', 'a', 3)])
    expect(texts(transcript)).toEqual(['abcd'])
  })

  it('keeps calls of one id apart when a page cuts the later one', () => {
    const transcript = new Transcript()
    transcript.append([tool(3, 3, 1, 'second')])
    transcript.prepend([tool(2, 2, 0)])
    transcript.prepend([tool(1, 3, 0, 'first')])
    expect(blocks(transcript).map((block) => block.kind === 'tool' && block.call.output)).toEqual(['first', 'second'])
  })

  it('comes to the same blocks whatever the pages are', () => {
    const all = story(120)
    const whole = new Transcript()
    whole.append(all)
    for (const size of [1, 7, 31, 50]) {
      const paged = new Transcript()
      let start = all.length - size
      paged.append(all.slice(start))
      while (start > 0) {
        const next = Math.max(0, start - size)
        paged.prepend(all.slice(next, start))
        start = next
      }
      expect(blocks(paged).map(withoutKey)).toEqual(blocks(whole).map(withoutKey))
      expect([paged.first, paged.last]).toEqual([1, 120])
    }
  })

  it('folds each new entry at the same cost when the transcript is long', () => {
    const transcript = new Transcript()
    transcript.append(Array.from({ length: 20_000 }, (_, at) => say(at + 1, 'x', `b${at}`, 0)))
    let looked = 0
    const get = Map.prototype.get
    Map.prototype.get = function (key) {
      looked++
      return get.call(this, key) as unknown
    }
    try {
      transcript.append([say(20_001, 'y', 'b19999', 1)])
    } finally {
      Map.prototype.get = get
    }
    expect(looked).toBeLessThan(10)
  })
})

function asked(offset: number) {
  return entry(offset, {
    case: 'permissionRequest',
    value: { permissionId: 'p', title: 'May I?', options: [{ optionId: 'allow', name: 'Yes', kind: 'allow_once' }] },
  })
}

function answered(offset: number) {
  return entry(offset, { case: 'permissionAnswer', value: { permissionId: 'p', optionId: 'allow', userId: 'usr_1' } })
}

function withoutKey({ key, ...rest }: Block): Omit<Block, 'key'> {
  return rest
}

/** A conversation in which everything spans several entries. */
function story(length: number) {
  return Array.from({ length }, (_, at) => {
    const body: Said[] = [
      { case: 'agentMessage', value: { text: `${at} ` } },
      { case: 'agentMessage', value: { text: 'more ' } },
      { case: 'toolCall', value: { toolCallId: `c${Math.floor(at / 40)}`, state: 2, output: String(at) } },
      { case: 'plan', value: { entries: [{ content: String(at) }] } },
      { case: 'permissionRequest', value: { permissionId: `p${Math.floor(at / 6)}` } },
      { case: 'permissionAnswer', value: { permissionId: `p${Math.floor(at / 6)}`, optionId: 'x' } },
    ]
    const first = at % 12 === 0 || (at % 6 === 2 && at % 40 < 6)
    return entry(at + 1, body[at % 6] as Said, {
      messageId: `m${Math.floor(at / 24)}`,
      blockId: at % 6 < 2 ? `b${Math.floor(at / 12)}` : '',
      partNumber: first ? 0 : at,
    })
  })
}
