import { MantineProvider } from '@mantine/core'
import { fireEvent, render, screen } from '@testing-library/react'
import type { ReactNode } from 'react'
import { beforeAll, describe, expect, it } from 'vitest'
import { stretches } from './ansi'
import { Formatted, formatting } from './Formatted'
import { fitsMarkdown } from './limits'
import { safeTarget, shownTarget } from './links'
import { LongText, pieces } from './LongText'
import { segments } from './segments'
import { Terminal } from './Terminal'
import { visible, visibleLine } from './visible'

const show = (node: ReactNode) => {
  render(
    <MantineProvider>
      <main>{node}</main>
    </MantineProvider>,
  )
  return screen.getByRole('main')
}

describe('markdown of an agent', () => {
  beforeAll(formatting.load)

  it('shows html as the text it is', () => {
    const page = show(
      <Formatted
        label="m"
        text={'</script><img src=x onerror=alert(1)> <b onclick="x()">bold</b>\n\n<iframe src="https://example.org"></iframe>'}
      />,
    )
    expect(page.querySelector('img, script, iframe, b')).toBeNull()
    expect(page.textContent).toContain('</script><img src=x onerror=alert(1)>')
  })

  it('loads no picture but offers it as a link', () => {
    const page = show(<Formatted label="m" text="![a cat](https://example.org/cat.png) ![](data:image/png;base64,AAAA)" />)
    expect(page.querySelector('img')).toBeNull()
    const link = screen.getByRole('link', { name: '[picture: a cat]' })
    expect(link.getAttribute('href')).toBe('https://example.org/cat.png')
    expect(page.textContent).toContain('[picture]')
  })

  it.each([
    'javascript:alert(1)',
    'JaVaScRiPt:alert(1)',
    'data:text/html,x',
    'file:///etc/passwd',
    'vbscript:x',
    '/relative',
    '//host',
    '#here',
  ])('has no link to %s', (url) => {
    const page = show(<Formatted label="m" text={`[click](${url}) [again](<${url}>)`} />)
    expect(page.querySelector('a')).toBeNull()
    expect(page.textContent).toContain('click')
  })

  it('tells the page nothing of itself through links, and shows where they lead', () => {
    const page = show(<Formatted label="m" text="[https://bank.example](https://evil.example/a)" />)
    const link = page.querySelector('a')
    expect(link?.getAttribute('rel')).toBe('noopener noreferrer nofollow')
    expect(page.textContent).toContain('(https://evil.example/a)')
  })

  it('carries no ids, classes of the source or form fields into the page', () => {
    const page = show(<Formatted label="m" text={'# Root\n\n- [x] done\n\nnote[^1]\n\n[^1]: the note'} />)
    expect(page.querySelector('.mantine-never, [id^="user-content"], input')).toBeNull()
    expect(page.querySelector('h1, h2')?.textContent ?? 'Footnotes').toBe('Footnotes')
  })

  it('shows marks that turn the direction, and controls, as pictures', () => {
    const page = show(<Formatted label="m" text={'\u202Egnp.exe\u202C bell \u0007 del \u007f'} />)
    expect(page.textContent).toBe('⟦RLO⟧gnp.exe⟦PDF⟧ bell ␇ del ␡')
  })

  it('shows a line of a mebibyte as plain text, its first part until more is asked for', () => {
    const page = show(<Formatted label="Message" text={'A'.repeat(1024 * 1024)} />)
    expect(page.querySelector('p')).toBeNull()
    expect(page.textContent?.length).toBeLessThan(70_000)
    fireEvent.click(screen.getByRole('button', { name: 'Show all (1.0 MiB)' }))
    expect(screen.getByRole('group', { name: 'Message' }).textContent?.length).toBe(1024 * 1024)
  })

  it.each([
    ['quotes within quotes', '>'.repeat(500)],
    ['lists within lists', '- '.repeat(400) + 'a'],
    ['heaps of emphasis', '*a_ '.repeat(5000)],
    ['heaps of brackets', '[a]('.repeat(5000)],
    ['more than 32 KiB', 'word '.repeat(7000)],
  ])('does not parse %s', (_, text) => {
    expect(fitsMarkdown(text)).toBe(false)
  })

  it('parses what people write', () => {
    const text =
      '# Title\n\n> quote\n> > deeper\n\n1. one\n   - two\n     - three\n\n```\n' +
      '    code\n'.repeat(200) +
      '```\n\n| a | b |\n|---|---|\n' +
      '| **x** | `y` |\n'.repeat(100)
    expect(fitsMarkdown(text)).toBe(true)
  })
})

describe('text of others', () => {
  it('is shown unchanged when all of it can be seen', () => {
    const text = 'Grüße, мир, 世界 👩‍👩‍👧 \t tab\nnext'
    expect(visible(text)).toBe(text)
  })

  it('has its line ends unified, and shown on one line', () => {
    expect(visible('a\r\nb\rc')).toBe('a\nb␍c')
    expect(visibleLine('a\nb')).toBe('a␊b')
  })

  it('is cut into pieces that lose nothing and part no character', () => {
    const text = '👩'.repeat(9000) + '\n' + 'x\n'.repeat(20_000)
    const all = pieces(text)
    expect(all.length).toBeGreaterThan(3)
    expect(all.join('\n').replaceAll('\n', '')).toBe(text.replaceAll('\n', ''))
    expect(() => all.map(encodeURIComponent)).not.toThrow()
  })

  it('shows all of a short long text without a button', () => {
    show(<LongText label="m" text="short" />)
    expect(screen.queryByRole('button')).toBeNull()
  })
})

describe('links', () => {
  it('keep host and end in sight when they are long', () => {
    const shown = shownTarget(`https://example.org/${'a'.repeat(200)}/end`)
    expect(shown.length).toBe(72)
    expect(shown.startsWith('https://example.org/')).toBe(true)
    expect(shown.endsWith('/end')).toBe(true)
  })

  it('may lead to http, https and mailto alone', () => {
    expect(safeTarget('https://example.org')).toBe('https://example.org/')
    expect(safeTarget('mailto:a@example.org')).toBe('mailto:a@example.org')
    expect(safeTarget(' java\nscript:alert(1)')).toBeUndefined()
    expect(safeTarget('https://')).toBeUndefined()
  })
})

describe('output of commands', () => {
  it('has colours as classes, and nothing hidden', () => {
    const page = show(<Terminal text={'\u001b[31mred\u001b[0m \u001b[8mhidden\u001b[0m \u001b[48;5;196mback\u001b[0m <b>x</b>'} />)
    expect(page.textContent).toBe('red hidden back <b>x</b>')
    expect(page.querySelector('b, [style]')).toBeNull()
  })

  it('shows escapes that are no colours', () => {
    expect(
      stretches('\u001b]8;;https://evil.example\u0007link')
        .map((each) => each.text)
        .join(''),
    ).toBe('␛]8;;https://evil.example␇link')
  })
})

describe('markdown that is being written', () => {
  it('is cut where it will not change any more', () => {
    expect(segments('one\n\ntwo\n\nthr')).toEqual(['one\n\n', 'two\n\n', 'thr'])
  })

  it('is not cut within fences, lists and quotes', () => {
    const fence = '```\na\n\nb\n```\n'
    expect(segments(`${fence}\nafter`)).toEqual([`${fence}\n`, 'after'])
    expect(segments('- a\n\n- b\n\n  more')).toHaveLength(1)
    expect(segments('~~~\n```\n\nx')).toHaveLength(1)
  })

  it('loses nothing', () => {
    const text = 'a\n\n\n\nb\n```js\n\nx\n```\n\n# c\n\n1. d\n\n2. e\n\nf\n'
    expect(segments(text).join('')).toBe(text)
  })
})
