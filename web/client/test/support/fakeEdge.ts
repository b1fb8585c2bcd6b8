import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { durationFromMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  WatchResponseSchema,
  type ModifyWatchesRequestSchema,
  type WatchRequestSchema,
  type WatchResponse,
} from '../../src/gen/foundry/edge/v1/edge_service_pb';
import { WatchTaskRequestSchema } from '../../src/gen/foundry/task/v1/task_service_pb';
import type { EdgeCall, WatchTransport } from '../../src/watch/transport';
import { FakeView, FakeWatch } from './fakeView';

type WatchInit = MessageInitShape<typeof WatchRequestSchema>;
type ModifyInit = MessageInitShape<typeof ModifyWatchesRequestSchema>;
type Body = MessageInitShape<typeof WatchResponseSchema>['body'];

/** An edge that follows the contract, and breaks it where a test asks for that. */
export class FakeEdge implements WatchTransport {
  readonly views = new Map<string, FakeView>();
  /** All streams ever opened. */
  readonly streams: FakeStream[] = [];
  /** All changes of watch sets that were requested. */
  readonly modifies: ModifyInit[] = [];
  /** Refuses to open streams. */
  refusal?: Error;
  /** Refuses a change of a watch set. */
  refuseModify?: (request: ModifyInit) => Error | undefined;
  /** Refuses single watches by their view. */
  readonly refusedViews = new Map<string, Code>();
  /** Whether watches of new streams start only when a test calls `answer`. */
  isSlow = false;
  /** Time between heartbeats in milliseconds; 0 = silence. */
  heartbeatMs = 15_000;

  view(name: string): FakeView {
    const view = this.views.get(name) ?? new FakeView();
    this.views.set(name, view);
    return view;
  }

  /** Commits a row and sends it to all watches. */
  commit(name: string, key: string, title?: string): void {
    this.view(name).commit(key, title);
    for (const stream of this.live()) for (const watch of stream.watching(name)) watch.catchUp();
  }

  live(): FakeStream[] {
    return this.streams.filter((stream) => !stream.isOver);
  }

  /** Cuts all streams, as a severed network does. */
  cut(error: Error = new ConnectError('network', Code.Unknown)): void {
    for (const stream of this.live()) stream.end(error);
  }

  async *watch(request: WatchInit, call: EdgeCall): AsyncGenerator<WatchResponse> {
    const stream = new FakeStream(this, call, `stream-${this.streams.length + 1}`);
    this.streams.push(stream);
    await Promise.resolve();
    if (this.refusal) {
      stream.isOver = true;
      throw this.refusal;
    }
    stream.hello();
    stream.add(request.subscriptions ?? []);
    yield* stream.responses();
  }

  async modify(request: ModifyInit, call: EdgeCall): Promise<unknown> {
    this.modifies.push(request);
    await Promise.resolve();
    if (call.signal.aborted) throw new ConnectError('aborted', Code.Canceled);
    const refusal = this.refuseModify?.(request);
    if (refusal) throw refusal;
    const stream = this.live().find(({ id }) => id === request.streamId);
    if (!stream) throw new ConnectError('no such stream', Code.NotFound);
    stream.modify(request);
    return {};
  }
}

/** One stream of the fake edge. */
export class FakeStream {
  isOver = false;
  /** Whether what is sent is held back. */
  isFrozen = false;
  /** Names of the views asked for, in order. */
  readonly asked: string[] = [];
  version = 0n;
  private readonly subs = new Map<number, { name: string; watch: FakeWatch }>();
  private readonly queue: WatchResponse[] = [];
  private readonly waiting: (() => void)[] = [];
  private error?: Error;
  private wake?: () => void;
  private seq = 0n;

  constructor(
    private readonly edge: FakeEdge,
    readonly call: EdgeCall,
    readonly id: string,
  ) {
    call.signal.addEventListener('abort', () => this.end(new ConnectError('aborted', Code.Canceled)));
  }

  get size(): number {
    return this.subs.size;
  }

  watching(name: string): FakeWatch[] {
    return [...this.subs.values()].filter((sub) => sub.name === name && sub.watch.hasBegun).map((sub) => sub.watch);
  }

  hello(): void {
    const heartbeat = durationFromMs(this.edge.heartbeatMs || 15_000);
    this.say({ case: 'hello', value: { streamId: this.id, server: 'fake', heartbeat } });
  }

  heartbeat(): void {
    this.say({ case: 'heartbeat', value: {} });
  }

  drain(reconnectAfterMs: number): void {
    this.say({ case: 'drain', value: { reconnectAfter: durationFromMs(reconnectAfterMs) } });
  }

  add(subscriptions: NonNullable<WatchInit['subscriptions']>): void {
    for (const { subId = 0, request = new Uint8Array() } of subscriptions) {
      const { taskId: name, options } = fromBinary(WatchTaskRequestSchema, request);
      this.asked.push(name);
      const code = this.edge.refusedViews.get(name);
      if (code !== undefined) {
        this.say({ case: 'ended', value: { subId, code, message: 'refused' } });
        continue;
      }
      const send = (response: Uint8Array) => this.say({ case: 'frames', value: { frames: [{ subId, response }] } });
      const watch = new FakeWatch(this.edge.view(name), send);
      this.subs.set(subId, { name, watch });
      if (this.edge.isSlow) this.waiting.push(() => watch.begin(options));
      else watch.begin(options);
    }
  }

  modify({ version = 0n, add = [], remove = [] }: ModifyInit): void {
    if (version <= this.version) return;
    if (version !== this.version + 1n) throw new ConnectError('gap', Code.FailedPrecondition);
    this.version = version;
    for (const subId of remove) this.subs.delete(subId);
    this.say({ case: 'modified', value: { version } });
    this.add(add);
  }

  endSub(name: string, code: Code): void {
    for (const [subId, sub] of this.subs) {
      if (sub.name !== name) continue;
      this.subs.delete(subId);
      this.say({ case: 'ended', value: { subId, code, message: 'ended' } });
    }
  }

  /** Delivers what was held back. */
  thaw(): void {
    this.isFrozen = false;
    this.wake?.();
  }

  /** Starts the watches that were held back. */
  answer(): void {
    for (const begin of this.waiting.splice(0)) begin();
  }

  /** Ends the stream, with an error or regularly. */
  end(error?: Error): void {
    if (this.isOver) return;
    this.isOver = true;
    this.error = error;
    this.wake?.();
  }

  /** Skips a frame of the stream itself. */
  skip(): void {
    this.seq += 1n;
  }

  async *responses(): AsyncGenerator<WatchResponse> {
    const beat = this.edge.heartbeatMs ? setInterval(() => this.heartbeat(), this.edge.heartbeatMs) : undefined;
    try {
      for (;;) {
        const response = this.isFrozen ? undefined : this.queue.shift();
        if (response) yield response;
        else if (this.isOver && (!this.isFrozen || this.error)) break;
        else await new Promise<void>((resolve) => (this.wake = resolve));
      }
    } finally {
      clearInterval(beat);
      this.isOver = true;
    }
    if (this.error) throw this.error;
  }

  private say(body: Body): void {
    if (this.isOver) return;
    this.seq += 1n;
    this.queue.push(create(WatchResponseSchema, { seq: this.seq, body }));
    this.wake?.();
  }
}
