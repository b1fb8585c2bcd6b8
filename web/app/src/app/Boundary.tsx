import { Button } from '@mantine/core'
import { Component, type ReactNode } from 'react'
import { ErrorState } from '../ui'

interface Props {
  children: ReactNode
  /** A change of this value tries again, for example the path. */
  resetKey?: string
}

/** Keeps a fault of one part from taking the page down; says what happened and offers to load the page anew. */
export class Boundary extends Component<Props, { error: unknown }> {
  override state = { error: undefined as unknown }

  static getDerivedStateFromError(error: unknown) {
    return { error }
  }

  override componentDidUpdate(before: Props): void {
    if (before.resetKey !== this.props.resetKey && this.state.error !== undefined) this.setState({ error: undefined })
  }

  override render(): ReactNode {
    if (this.state.error === undefined) return this.props.children
    return (
      <ErrorState
        error={this.state.error}
        title="This part of the page failed"
        onRetry={() => this.setState({ error: undefined })}
        actions={
          <Button variant="default" onClick={() => location.reload()}>
            Reload the page
          </Button>
        }
      />
    )
  }
}
