import { memo } from 'react'
import { Part, PartMissing, usePart } from '..'
import { InertText } from './Inert'
import { fitsMarkdown, MAX_MARKDOWN } from './limits'
import { LongText } from './LongText'

/** What parses markdown; loaded with the first words of an agent. */
export const formatting = new Part(() => import('./Markdown').then((it) => it.Markdown))

interface Props {
  text: string
  label: string
}

/**
 * Words of an agent: formatted as soon as the code for it is here, as plain text until then and for good when they are
 * too long or nested too deeply.
 */
export const Formatted = memo(function Formatted({ text, label }: Props) {
  const { value: Markdown } = usePart(formatting)
  if (!fitsMarkdown(text)) {
    return text.length > MAX_MARKDOWN ? <LongText text={text} label={label} /> : <InertText text={text} />
  }
  return Markdown === undefined ? <InertText text={text} /> : <Markdown text={text} />
})

/** Says that the words of agents are plain text because the code that formats them could not be loaded. */
export function FormattingMissing() {
  const { error, loading } = usePart(formatting, false)
  if (error === undefined) return null
  return (
    <PartMissing title="Messages are shown without their formatting" error={error} onRetry={formatting.load} retrying={loading} compact />
  )
}
