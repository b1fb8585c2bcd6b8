import { durationFromMs, durationMs } from '@bufbuild/protobuf/wkt';
import { Code } from '@connectrpc/connect';
import { FoundryError } from '../errors';
import type { Drain, Ended, Hello, WatchResponse } from '../gen/foundry/edge/v1/edge_service_pb';
import type { Env } from './env';
import { FrameChecker } from './frameChecker';
import { Modifier, type Change } from './modifier';
import { HEARTBEAT_MS, type TopicRecord } from './record';
import type { WatchTransport } from './transport';

const SILENT_HEARTBEATS = 2.5;
/** Most watches of one stream. */
export const MAX_WATCHES = 256;

/** A watch of a stream. */
export interface Sub {
  readonly id: number;
  readonly record: TopicRecord;
  readonly checker: FrameChecker;
}

/** Gets the events of a stream. */
export interface StreamListener {
  hello(stream: EdgeStream, server: string): void;
  frame(stream: EdgeStream, sub: Sub, bytes: Uint8Array): void;
  ended(stream: EdgeStream, sub: Sub, error: FoundryError): void;
  /** A message was received. */
  heard(stream: EdgeStream): void;
  drain(stream: EdgeStream, reconnectAfterMs: number): void;
  /** The authorization of the stream ends soon. */
  expiring(): void;
  /** The stream has ended; called once, and not after `close`. */
  over(stream: EdgeStream, error: FoundryError): void;
}

/** One stream of the edge with the watches it carries. */
export class EdgeStream {
  /** Whether the edge has announced the end of the stream. */
  draining = false;
  /** Whether the stream works: its hello has arrived. */
  open = false;
  private readonly subs = new Map<number, Sub>();
  private readonly byTopic = new Map<TopicRecord, Sub>();
  private readonly abort = new AbortController();
  private readonly modifier: Modifier;
  private lastSubId = 0;
  private seq = 0n;
  private removed: number[] = [];
  private silence = HEARTBEAT_MS * SILENT_HEARTBEATS;
  private heardAt: number;
  private stopAlarm?: () => void;

  constructor(
    private readonly transport: WatchTransport,
    private readonly env: Env,
    private readonly sessionKey: string,
    private readonly listener: StreamListener,
    private readonly order: number,
  ) {
    this.heardAt = env.now();
    this.modifier = new Modifier(transport, env, { sessionKey, signal: this.abort.signal }, (error) => this.finish(error));
  }

  /** The watches on this stream. */
  watches(): IterableIterator<Sub> {
    return this.subs.values();
  }

  /** The watch of a topic on this stream. */
  watchOf(record: TopicRecord): Sub | undefined {
    return this.byTopic.get(record);
  }

  /** Opens the stream with these topics, each from its position. */
  start(records: Iterable<TopicRecord>): void {
    const subscriptions = [...records].map((record) => this.add(record));
    this.arm(this.silence);
    void this.read({ subscriptions, heartbeat: durationFromMs(HEARTBEAT_MS) });
  }

  /** Changes the watches of the stream to this set; makes a call only if something differs. */
  sync(records: ReadonlySet<TopicRecord>): void {
    this.modifier.request(() => this.change(records));
  }

  /** Drops the watch of a topic; `sync` starts a new one. */
  drop(record: TopicRecord): void {
    const sub = this.byTopic.get(record);
    if (!sub) return;
    this.forget(sub);
    this.removed.push(sub.id);
  }

  /** Ends the stream without calling the listener. */
  close(): void {
    this.stopAlarm?.();
    this.abort.abort();
  }

  private change(records: ReadonlySet<TopicRecord>): Change {
    for (const record of [...this.byTopic.keys()]) if (!records.has(record)) this.drop(record);
    const remove = this.removed;
    this.removed = [];
    const add = [...records].filter((record) => !this.byTopic.has(record)).map((record) => this.add(record));
    return { add, remove };
  }

  private add(record: TopicRecord): Change['add'][number] {
    const { position } = record;
    const sub = { id: ++this.lastSubId, record, checker: new FrameChecker(position, this.order) };
    this.subs.set(sub.id, sub);
    this.byTopic.set(record, sub);
    return { subId: sub.id, method: record.spec.method, request: record.request(position) };
  }

  private forget(sub: Sub): void {
    this.subs.delete(sub.id);
    this.byTopic.delete(sub.record);
  }

  private async read(request: Parameters<WatchTransport['watch']>[0]): Promise<void> {
    const call = { sessionKey: this.sessionKey, signal: this.abort.signal };
    try {
      for await (const response of this.transport.watch(request, call)) {
        if (this.abort.signal.aborted) return;
        this.receive(response);
      }
      this.finish(new FoundryError({ code: Code.Unavailable, message: 'The server ended the stream.' }));
    } catch (error) {
      this.finish(FoundryError.from(error));
    }
  }

  private receive(response: WatchResponse): void {
    this.heardAt = this.env.now();
    this.seq += 1n;
    const { body } = response;
    if (response.seq !== this.seq) return this.lost(`Received frame ${response.seq}, expected ${this.seq}.`);
    if (body.case === 'hello') return this.hello(body.value);
    if (!this.open) return this.lost('The stream did not start with a hello.');
    if (body.case === 'frames') {
      for (const { subId, response: bytes } of body.value.frames) {
        const sub = this.subs.get(subId);
        // Frames of a dropped watch may still arrive.
        if (sub) this.listener.frame(this, sub, bytes);
      }
    } else if (body.case === 'ended') this.end(body.value);
    else if (body.case === 'drain') this.drain(body.value);
    else if (body.case === 'authExpiring') this.listener.expiring();
    this.listener.heard(this);
  }

  private hello({ streamId, server, heartbeat }: Hello): void {
    this.open = true;
    if (heartbeat) this.silence = durationMs(heartbeat) * SILENT_HEARTBEATS;
    this.arm(this.silence);
    this.modifier.open(streamId);
    this.listener.hello(this, server);
  }

  private end({ subId, code, message, status }: Ended): void {
    const sub = this.subs.get(subId);
    if (!sub) return;
    this.forget(sub);
    this.listener.ended(this, sub, FoundryError.fromStatus(code, message, status));
  }

  private drain({ reconnectAfter }: Drain): void {
    this.draining = true;
    this.modifier.ignoreFailures();
    this.listener.drain(this, reconnectAfter ? durationMs(reconnectAfter) : 0);
  }

  private lost(message: string): void {
    this.finish(new FoundryError({ code: Code.DataLoss, reason: 'WATCH_STREAM_GAP', message, retryable: true }));
  }

  private finish(error: FoundryError): void {
    if (this.abort.signal.aborted) return;
    this.close();
    this.listener.over(this, error);
  }

  private arm(ms: number): void {
    this.stopAlarm?.();
    this.stopAlarm = this.env.after(ms, () => {
      const quiet = this.env.now() - this.heardAt;
      // The clock was set back, so the length of the silence is unknown; count from here.
      if (quiet < 0) this.heardAt = this.env.now();
      if (quiet < this.silence) return this.arm(this.silence - Math.max(quiet, 0));
      const message = `No data was received for ${Math.round(quiet / 1000)} s.`;
      this.finish(new FoundryError({ code: Code.Unavailable, reason: 'WATCH_STREAM_SILENT', message }));
    });
  }
}
