import { Button } from '@mantine/core'
import { memo, useMemo, useState } from 'react'
import { Decoration, Diff, Hunk, markEdits, tokenize, type HunkData, type HunkTokens } from 'react-diff-view'
import 'react-diff-view/style/index.css'
import { SHOWN_FIRST } from '../../../ui/text/limits'
import { LongText } from '../../../ui/text/LongText'
import { InertText } from '../../../ui/text/Inert'
import { visibleLine } from '../../../ui/text/visible'
import classes from './changes.module.css'
import './diff.css'
import { firstLines, lineCount, parsePatch } from './parse'
import type { DiffChoice } from './useDiffChoice'

/** Lines of a diff that are rendered before the button for more. */
const AT_ONCE = 800

/** The patch of one file as a table of lines. */
export const Patch = memo(function Patch({ bytes, path, choice }: { bytes: Uint8Array; path: string; choice: DiffChoice }) {
  const text = useMemo(() => new TextDecoder().decode(bytes), [bytes])
  const file = useMemo(() => parsePatch(text), [text])
  const [lines, setLines] = useState(AT_ONCE)
  const hunks = useMemo(() => firstLines(file?.hunks ?? [], lines), [file, lines])
  const tokens = useMemo(() => edits(hunks), [hunks])
  if (file === undefined) return <Unparsed text={text} />
  const all = lineCount(file.hunks)
  return (
    <div
      className={classes.diff}
      data-wrap={choice.wrap}
      data-view={choice.view}
      tabIndex={0}
      role="region"
      aria-label={`Diff of ${visibleLine(path)}`}
    >
      <Diff viewType={choice.view} diffType={file.type} hunks={hunks} tokens={tokens}>
        {(drawn) =>
          drawn.flatMap((hunk, at) => [
            <Decoration key={`head ${at}`} className={classes.hunkHead}>
              <span>{hunk.content}</span>
            </Decoration>,
            <Hunk key={at} hunk={hunk} />,
          ])
        }
      </Diff>
      {all > lines && (
        <Button variant="default" m="xs" onClick={() => setLines(lines + 2 * AT_ONCE)}>
          Show more ({all - lines} lines left)
        </Button>
      )}
    </div>
  )
})

/** The differences within changed lines; none where computing them could take long. */
function edits(hunks: HunkData[]): HunkTokens | undefined {
  const characters = hunks.reduce((sum, hunk) => sum + hunk.changes.reduce((each, change) => each + change.content.length, 0), 0)
  if (characters > 64 * 1024) return undefined
  return tokenize(hunks, { enhancers: [markEdits(hunks, { type: 'block' })] })
}

/** A change without lines: an empty file, a change of mode, or only a rename. */
function Unparsed({ text }: { text: string }) {
  if (text.trim() === '') return <p className={classes.note}>No lines changed.</p>
  return (
    <div className={classes.note}>
      {text.length > SHOWN_FIRST ? <LongText text={text} label="Patch" mono /> : <InertText text={text} mono />}
    </div>
  )
}
