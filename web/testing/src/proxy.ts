/** A TCP proxy in front of the gateway: it counts the requests of pages and can cut every connection. */
import { createServer, connect, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

/** A request that passed the proxy. */
export interface Passed {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** HTTP method. */
  readonly method: string;
  /** Path with query. */
  readonly path: string;
}

/** A proxy between a browser and a mesh. */
export class MeshProxy {
  /** All requests that passed, oldest first. */
  readonly requests: Passed[] = [];
  /** Bytes that went to the browser. */
  bytesDown = 0;
  private readonly pairs = new Set<[Socket, Socket]>();
  private refusing = false;
  private withheld: RegExp | undefined;

  private constructor(
    private readonly server: Server,
    private target: number,
  ) {}

  /** Listens on a free port and forwards to `target` on this machine. */
  static async before(target: number): Promise<MeshProxy> {
    const server = createServer();
    const proxy = new MeshProxy(server, target);
    server.on('connection', (socket) => proxy.join(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  /** Address for the browser. */
  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.pairs.size;
  }

  /** Number of requests for a path since a moment. */
  count(path: RegExp, since = 0): number {
    return this.requests.filter((r) => r.at >= since && path.test(r.path)).length;
  }

  private join(down: Socket): void {
    if (this.refusing) {
      down.destroy();
      return;
    }
    const up = connect(this.target, '127.0.0.1');
    const pair: [Socket, Socket] = [down, up];
    this.pairs.add(pair);
    const end = (): void => {
      this.pairs.delete(pair);
      down.destroy();
      up.destroy();
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    down.on('data', (chunk) => {
      for (const head of chunk.toString('latin1').matchAll(/(?:^|\r\n)(GET|POST|HEAD|OPTIONS) (\S+) HTTP\/1\.1\r\n/g)) {
        this.requests.push({ at: Date.now(), method: head[1] ?? '', path: head[2] ?? '' });
        if (this.withheld?.test(head[2] ?? '')) return;
      }
      up.write(chunk);
    });
    up.on('data', (chunk) => {
      this.bytesDown += chunk.length;
      down.write(chunk);
    });
  }

  /** Directs new connections to another port; open ones stay where they are. */
  lead(target: number): void {
    this.target = target;
  }

  /** Holds back the answers to requests for a path; undefined lets all pass. */
  withhold(path: RegExp | undefined): void {
    this.withheld = path;
  }

  /** Cuts every connection; new ones work at once. */
  sever(): void {
    for (const [down, up] of this.pairs) {
      down.resetAndDestroy();
      up.resetAndDestroy();
    }
  }

  /** Cuts every connection and refuses new ones until `restore`. */
  refuse(): void {
    this.refusing = true;
    this.sever();
  }

  /** Accepts connections again. */
  restore(): void {
    this.refusing = false;
  }

  /** Stops the proxy. */
  close(): void {
    this.refuse();
    this.server.close();
  }
}
