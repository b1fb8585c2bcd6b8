import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const src = join(import.meta.dirname, '..')
const styles = join(src, '../../node_modules/@mantine/core/styles')

function usedParts(): Set<string> {
  const parts = new Set<string>()
  for (const name of readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((it) => /\.tsx?$/.test(it))) {
    const text = readFileSync(join(src, name), 'utf8')
    for (const [, names] of text.matchAll(/import \{([^}]*)\} from '@mantine\/core'/g)) {
      for (const part of names?.match(/\b[A-Z]\w+/g) ?? []) parts.add(part)
    }
  }
  return parts
}

test('every part of Mantine that is used has its styles', () => {
  const listed = readFileSync(join(src, 'theme/mantine.ts'), 'utf8')
  const missing = [...usedParts()].filter((part) => existsSync(join(styles, `${part}.css`)) && !listed.includes(`styles/${part}.css`))
  expect(missing).toEqual([])
})

test('colours of both schemes are tokens: what the build makes of light-dark() is no colour at all', () => {
  const sheets = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((it) => it.endsWith('.css'))
  expect(sheets.filter((it) => readFileSync(join(src, it), 'utf8').includes('light-dark('))).toEqual([])
})
