/** Measures reads of the whole list through the gateway. */
import { Agent, request } from 'node:http';
import { create, toBinary } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-web';
import { AuthService } from '@foundry/client/gen/foundry/auth/v1/auth_service_pb';
import { GetOrganizationSummaryRequestSchema } from '@foundry/client/gen/foundry/task/v1/task_service_pb';
import type { Mesh } from '../mesh';

/** Duration of reads, and the size of an answer. */
export interface Summary {
  /** Milliseconds of each read, without decoding. */
  readonly times: number[];
  /** Bytes of an answer. */
  readonly bytes: number;
}

/** Reads the summary of an organization `rounds` times over one connection. */
export async function timeSummary(mesh: Mesh, organizationId: string, rounds: number): Promise<Summary> {
  const development = { secret: mesh.secret, login: 'alice', organizationName: '' };
  const auth = createClient(AuthService, createGrpcWebTransport({ baseUrl: mesh.url, useBinaryFormat: true }));
  const { sessionToken } = await auth.completeSignIn({ proof: { case: 'development', value: development } });
  const message = toBinary(GetOrganizationSummaryRequestSchema, create(GetOrganizationSummaryRequestSchema, { organizationId }));
  const body = Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const times: number[] = [];
  let bytes = 0;
  for (let round = 0; round < rounds + 3; round += 1) {
    const begun = performance.now();
    bytes = await post(mesh, sessionToken, body, agent);
    // The first ones open the connection and warm up.
    if (round >= 3) times.push(performance.now() - begun);
  }
  agent.destroy();
  return { times, bytes };
}

async function post(mesh: Mesh, token: string, body: Buffer, agent: Agent): Promise<number> {
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/grpc-web+proto',
    'x-grpc-web': '1',
    'content-length': body.length,
  };
  return await new Promise((resolve, reject) => {
    const asked = request(
      `${mesh.url}/foundry.task.v1.TaskService/GetOrganizationSummary`,
      { method: 'POST', headers, agent },
      (answer) => {
        const chunks: Buffer[] = [];
        answer
          .on('data', (chunk: Buffer) => chunks.push(chunk))
          .on('error', reject)
          .on('end', () => {
            const all = Buffer.concat(chunks);
            const fine =
              answer.statusCode === 200 &&
              (answer.headers['grpc-status'] ?? /grpc-status: ?(\d+)/.exec(all.toString('latin1'))?.[1]) === '0';
            if (fine) resolve(all.length);
            else reject(new Error(`the summary was refused: ${answer.statusCode} ${all.toString('latin1').slice(-200)}`));
          });
      },
    );
    asked.on('error', reject).end(body);
  });
}
