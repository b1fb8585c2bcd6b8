import { describe, expect, it } from 'vitest'
import { nameFromUrl, originOf, urlProblem } from './url'

describe('the URL of a repository', () => {
  it('may be https, ssh in both notations, or a path, and holds no credential', () => {
    for (const url of ['https://h/a', 'ssh://git@h:2222/a', 'git@h:a/b.git', '/srv/a']) expect(urlProblem(url)).toBeUndefined()
    expect(urlProblem('https://token@h/a')).toContain('without')
    for (const url of ['', 'x', 'ftp://h/a', 'h:a']) expect(urlProblem(url)).toBeDefined()
  })

  it('has the origin to which its credentials are bound', () => {
    for (const [url, origin] of [
      ['https://GitHub.com/a/b', 'https://github.com'],
      ['http://10.0.0.1:3000/a', 'http://10.0.0.1:3000'],
      ['ssh://git@H.example:22/a', 'ssh://h.example'],
      ['ssh://git@h:2222/a', 'ssh://h:2222'],
      ['git@github.com:a/b.git', 'ssh://github.com'],
      ['/srv/a@b:c', undefined],
    ]) {
      expect(originOf(url as string)).toBe(origin)
    }
  })

  it('gives a name', () => {
    expect(nameFromUrl('git@h:a/b.git')).toBe('b')
  })
})
