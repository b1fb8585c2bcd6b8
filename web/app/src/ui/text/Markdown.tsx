import { Component, memo, type ReactNode } from 'react'
import ReactMarkdown, { type Components } from 'react-markdown'
import remarkGfm from 'remark-gfm'
import { safeTarget, shownTarget } from './links'
import { InertText } from './Inert'
import { visible } from './visible'
import classes from './text.module.css'

const plugins = [remarkGfm]

/**
 * Markdown of an agent. No HTML (it is shown as text), no pictures (they become links), links only to http, https and
 * mailto with a visible target. Only for text that `fitsMarkdown`; use `Formatted`.
 */
export const Markdown = memo(function Markdown({ text }: { text: string }) {
  return (
    <PlainOnError text={text}>
      <div dir="auto" className={classes.markdown}>
        <ReactMarkdown remarkPlugins={plugins} components={components} urlTransform={(url) => safeTarget(url) ?? ''}>
          {visible(text)}
        </ReactMarkdown>
      </div>
    </PlainOnError>
  )
})

/** Shows the plain text when it cannot be rendered as markdown. */
class PlainOnError extends Component<{ text: string; children: ReactNode }, { failed: boolean }> {
  override state = { failed: false }

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true }
  }

  override render(): ReactNode {
    return this.state.failed ? <InertText text={this.props.text} /> : this.props.children
  }
}

function Link({ href, children }: { href?: string; children?: ReactNode }) {
  const target = safeTarget(href)
  if (target === undefined) return <span className={classes.deadLink}>{children}</span>
  const shown = shownTarget(target)
  const same = typeof children === 'string' && sameTarget(children, target)
  return (
    <>
      <a href={target} target="_blank" rel="noopener noreferrer nofollow" title={target}>
        {children}
      </a>
      {!same && (
        <>
          {' '}
          <bdi className={classes.target}>({shown})</bdi>
        </>
      )}
    </>
  )
}

function sameTarget(text: string, target: string): boolean {
  const bare = (url: string) => url.replace(/^mailto:/i, '').replace(/\/$/, '')
  return bare(text) === bare(target)
}

function Picture({ src, alt }: { src?: unknown; alt?: string }) {
  const target = typeof src === 'string' ? safeTarget(src) : undefined
  const name = alt === undefined || alt === '' ? 'picture' : `picture: ${alt}`
  if (target === undefined) return <span className={classes.deadLink}>[{name}]</span>
  return <Link href={target}>[{name}]</Link>
}

/** A heading with the looks of a level. All have the same level, so that the page's outline has no gaps. */
function heading(look: 3 | 4 | 5) {
  // biome-ignore lint/correctness/noComponentHookFactories: made once for each look, as the module is loaded
  return function Heading({ children }: { children?: ReactNode }) {
    return <h3 className={classes[`heading${look}`]}>{children}</h3>
  }
}

// Only the properties named here are passed on: no ids, classes or other attributes of the source.
const components: Components = {
  a: ({ href, children }) => <Link href={href}>{children}</Link>,
  img: ({ src, alt }) => <Picture src={src} alt={alt} />,
  h1: heading(3),
  h2: heading(3),
  h3: heading(4),
  h4: heading(4),
  h5: heading(5),
  h6: heading(5),
  li: ({ children }) => <li dir="auto">{children}</li>,
  p: ({ children }) => <p dir="auto">{children}</p>,
  section: ({ children }) => <section>{children}</section>,
  sup: ({ children }) => <sup>{children}</sup>,
  input: ({ checked }) => (
    <span role="img" aria-label={checked === true ? 'done' : 'open'} className={classes.box}>
      {checked === true ? '☑' : '☐'}
    </span>
  ),
  pre: ({ children }) => (
    <pre dir="ltr" className={classes.code} tabIndex={0}>
      {children}
    </pre>
  ),
  code: ({ children }) => <code>{children}</code>,
  table: ({ children }) => (
    <div className={classes.table} tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
}
