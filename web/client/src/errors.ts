import { fromBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { durationMs } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError } from '@connectrpc/connect';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from './gen/google/rpc/error_details_pb';
import { StatusSchema } from './gen/google/rpc/status_pb';

/** One field of a request and what is wrong with it. */
export interface FieldViolation {
  field: string;
  description: string;
}

/** A failed call or watch as plain data, so that it can be sent between a page and its worker. */
export interface FoundryErrorFacts {
  /** gRPC status code. */
  code: Code;
  /** One sentence for people. */
  message: string;
  /** Stable reason in UPPER_SNAKE_CASE, as in the error pages; the name of the code when none was given. */
  reason: string;
  /** What can be done now; empty when the server named nothing. */
  nextAction: string;
  /** Whether the same call may succeed when repeated. */
  retryable: boolean;
  /** How long to wait before a repeat, in milliseconds, when the server named a time. */
  retryAfterMs?: number;
  /** Fields of the request that were refused. */
  fields: FieldViolation[];
  /** The entity that the error is about. */
  resource?: { type: string; name: string };
  /** Further facts, for example the name and maximum of a limit. */
  metadata: Record<string, string>;
}

const RETRYABLE: ReadonlySet<Code> = new Set([Code.Unavailable, Code.Aborted, Code.DeadlineExceeded, Code.ResourceExhausted]);

/** Why a call or a watch failed, with reason and what to do about it. */
export class FoundryError extends Error implements FoundryErrorFacts {
  override readonly name = 'FoundryError';
  readonly code: Code;
  readonly reason: string;
  readonly nextAction: string;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
  readonly fields: FieldViolation[];
  readonly resource?: { type: string; name: string };
  readonly metadata: Record<string, string>;

  constructor(facts: Pick<FoundryErrorFacts, 'code' | 'message'> & Partial<FoundryErrorFacts>) {
    super(facts.message);
    this.code = facts.code;
    this.reason = facts.reason || reasonOf(facts.code);
    this.nextAction = facts.nextAction ?? '';
    this.retryAfterMs = facts.retryAfterMs;
    this.retryable = facts.retryable ?? (RETRYABLE.has(facts.code) || facts.retryAfterMs !== undefined);
    this.fields = facts.fields ?? [];
    this.resource = facts.resource;
    this.metadata = facts.metadata ?? {};
  }

  /** The error for anything that was thrown. A cut connection is UNAVAILABLE and retryable. */
  static from(thrown: unknown): FoundryError {
    if (thrown instanceof FoundryError) return thrown;
    const error = ConnectError.from(thrown);
    const details = error.details.flatMap((d) => ('type' in d ? [{ type: d.type, value: d.value }] : []));
    // A killed server and a severed connection reach the page as Unknown, without any detail.
    if (error.code === Code.Unknown && details.length === 0) return unreachable(error.rawMessage);
    return withDetails(error.code, error.rawMessage, details);
  }

  /** The error in an encoded `google.rpc.Status`; without bytes it has only code and message. */
  static fromStatus(code: Code, message: string, status: Uint8Array): FoundryError {
    if (status.length === 0) return new FoundryError({ code, message });
    try {
      const { details } = fromBinary(StatusSchema, status);
      return withDetails(
        code,
        message,
        details.map((d) => ({ type: d.typeUrl.replace(/^.*\//, ''), value: d.value })),
      );
    } catch {
      return new FoundryError({ code, message });
    }
  }

  /** The error as plain data. */
  facts(): FoundryErrorFacts {
    const { code, message, reason, nextAction, retryable, retryAfterMs, fields, resource, metadata } = this;
    return { code, message, reason, nextAction, retryable, retryAfterMs, fields, resource, metadata };
  }
}

interface Detail {
  type: string;
  value: Uint8Array;
}

function withDetails(code: Code, message: string, details: readonly Detail[]): FoundryError {
  const info = find(details, ErrorInfoSchema);
  const retry = find(details, RetryInfoSchema)?.retryDelay;
  const resource = find(details, ResourceInfoSchema);
  const { next_action: nextAction, ...metadata } = info?.metadata ?? {};
  return new FoundryError({
    code,
    message,
    reason: info?.reason,
    nextAction,
    metadata,
    retryAfterMs: retry && durationMs(retry),
    fields: find(details, BadRequestSchema)?.fieldViolations.map(({ field, description }) => ({ field, description })),
    resource: resource && { type: resource.resourceType, name: resource.resourceName },
    ...(info ? {} : { reason: violation(details) }),
  });
}

function unreachable(cause: string): FoundryError {
  return new FoundryError({
    code: Code.Unavailable,
    message: 'The server cannot be reached.',
    nextAction: 'Check the network and that the gateway is running, then try again.',
    metadata: { cause },
  });
}

/** The reason in the first violation of a precondition or quota, used when there is no other. */
function violation(details: readonly Detail[]): string | undefined {
  const precondition = find(details, PreconditionFailureSchema)?.violations[0]?.type;
  return precondition || (find(details, QuotaFailureSchema) ? 'QUOTA_EXCEEDED' : undefined);
}

function find<D extends DescMessage>(details: readonly Detail[], schema: D): MessageShape<D> | undefined {
  const detail = details.find((d) => d.type === schema.typeName);
  if (!detail) return undefined;
  try {
    return fromBinary(schema, detail.value);
  } catch {
    return undefined;
  }
}

function reasonOf(code: Code): string {
  return (Code[code] ?? 'Unknown').replace(/([a-z])([A-Z])/g, '$1_$2').toUpperCase();
}
