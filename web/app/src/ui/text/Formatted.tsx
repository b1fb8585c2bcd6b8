import { memo } from 'react'
import { Part, PartMissing, usePart } from '..'
import { InertText } from './Inert'
import { fitsMarkdown, MAX_MARKDOWN } from './limits'
import { LongText } from './LongText'

/** The markdown parser; loaded with the first text of an agent. */
export const formatting = new Part(() => import('./Markdown').then((it) => it.Markdown))

interface Props {
  text: string
  label: string
}

/**
 * Text of an agent: formatted once the code for it is loaded, as plain text until then, and always when it is too
 * long or nested too deeply.
 */
export const Formatted = memo(function Formatted({ text, label }: Props) {
  const { value: Markdown } = usePart(formatting)
  if (!fitsMarkdown(text)) {
    return text.length > MAX_MARKDOWN ? <LongText text={text} label={label} /> : <InertText text={text} />
  }
  return Markdown === undefined ? <InertText text={text} /> : <Markdown text={text} />
})

/** Shows that agents' text is plain because the code that formats it could not be loaded. */
export function FormattingMissing() {
  const { error, loading } = usePart(formatting, false)
  if (error === undefined) return null
  return (
    <PartMissing title="Messages are shown without their formatting" error={error} onRetry={formatting.load} retrying={loading} compact />
  )
}
