/** Lines added and removed, as signs and numbers; nothing when nothing changed. */
export function DiffStat({ additions, deletions }: { additions: bigint | number; deletions: bigint | number }) {
  if (Number(additions) === 0 && Number(deletions) === 0) return null
  const label = `${additions} lines added, ${deletions} removed`
  return (
    <span role="img" aria-label={label} title={label} style={{ fontVariantNumeric: 'tabular-nums', whiteSpace: 'nowrap' }}>
      <span style={{ color: 'var(--fd-added)' }}>+{short(additions)}</span>{' '}
      <span style={{ color: 'var(--fd-removed)' }}>−{short(deletions)}</span>
    </span>
  )
}

function short(lines: bigint | number): string {
  const count = Number(lines)
  return count < 10_000 ? String(count) : `${Math.round(count / 1000)}k`
}
