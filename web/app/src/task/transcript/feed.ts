import type { SessionLog } from '@foundry/client'
import type { TranscriptEntry } from '@foundry/client/gen/foundry/task/v1/task_pb'
import { Transcript } from './fold'

/** Adds new entries of a session's log to a transcript; repeated calls cost nothing. */
export class Feed {
  transcript = new Transcript()
  private entries: readonly TranscriptEntry[] = []
  private seen = 0

  /** Adds the entries since the last call. */
  take(log: SessionLog): void {
    if (log.entries !== this.entries) {
      const newest = Number(log.entries.at(-1)?.offset ?? 0n)
      // Entries never change. A log that ends earlier than before is another one: the store was restored from a
      // backup.
      if (newest < this.transcript.last && this.seen > 0 && log.entries.length > 0) this.transcript = new Transcript()
      this.entries = log.entries
      this.seen = 0
    }
    if (this.seen === this.entries.length) return
    this.transcript.append(from(this.entries, this.seen))
    this.seen = this.entries.length
  }
}

function* from(entries: readonly TranscriptEntry[], start: number): Generator<TranscriptEntry> {
  for (let at = start; at < entries.length; at++) yield entries[at] as TranscriptEntry
}
