import { describe, expect, it } from 'vitest'
import { parsePatch } from './parse'

const typeChange = `diff --git a/text b/text
deleted file mode 100644
index 1..0
--- a/text
+++ /dev/null
@@ -1 +0,0 @@
-one
diff --git a/text b/text
new file mode 120000
index 0..2
--- /dev/null
+++ b/text
@@ -0,0 +1 @@
+plain
\\ No newline at end of file
`

describe('a parsed patch', () => {
  it('shows both sides of a file that became a symbolic link', () => {
    const file = parsePatch(typeChange)
    const lines = file?.hunks.flatMap((hunk) => hunk.changes.map((change) => `${change.type} ${change.content}`))
    expect(file?.type).toBe('modify')
    expect(lines).toEqual(expect.arrayContaining(['delete one', 'insert plain']))
  })

  it('is none without lines', () => {
    expect(parsePatch('diff --git a/x b/x\nold mode 100644\nnew mode 100755\n')).toBeUndefined()
  })
})
