import type { BranchOverview } from '@foundry/client/gen/foundry/repo/v1/repo_pb'

/** A branch with its place in the tree. */
export interface Placed {
  branch: BranchOverview
  /** How many branches of the repository it stands on. */
  depth: number
}

/** The branches in the order of the tree: the default branch first, each below its parent, others by name. */
export function stackTree(branches: readonly BranchOverview[]): Placed[] {
  const names = new Set(branches.map((it) => it.name))
  const children = new Map<string, BranchOverview[]>()
  const roots: BranchOverview[] = []
  for (const branch of branches) {
    // A parent that is not there, or not there yet, must not hide what stands on it.
    if (!names.has(branch.parent)) {
      roots.push(branch)
      continue
    }
    const siblings = children.get(branch.parent)
    if (siblings) siblings.push(branch)
    else children.set(branch.parent, [branch])
  }
  const backwards = (a: BranchOverview, b: BranchOverview): number =>
    Number(a.isDefault) - Number(b.isDefault) || (a.name < b.name ? 1 : a.name > b.name ? -1 : 0)
  const next: Placed[] = roots.sort(backwards).map((branch) => ({ branch, depth: 0 }))
  const placed: Placed[] = []
  for (let at = next.pop(); at !== undefined; at = next.pop()) {
    placed.push(at)
    const depth = at.depth + 1
    const below = children.get(at.branch.name) ?? []
    children.delete(at.branch.name)
    next.push(...below.sort(backwards).map((branch) => ({ branch, depth })))
  }
  return placed
}
