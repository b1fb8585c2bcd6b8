import { Button } from '@mantine/core'
import { Component, type ReactNode } from 'react'
import { ErrorState } from '../ui'

interface Props {
  children: ReactNode
  /** Another value retries, for example the path. */
  resetKey?: string
}

/** Keeps a failing part from taking the page down; shows the error and offers to reload the page. */
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
