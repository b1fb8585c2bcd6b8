"""Watches an organization until it has caught up, knowing nothing but the server's reflection.

usage: watch_organization.py HOST:PORT TOKEN ORGANIZATION_ID
"""

import sys

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main(address: str, token: str, organization_id: str) -> int:
    channel = grpc.insecure_channel(address)
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName("foundry.task.v1.TaskService").FindMethodByName("WatchOrganization")
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    watch = channel.unary_stream(
        "/foundry.task.v1.TaskService/WatchOrganization",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    frames = watch(
        request(organization_id=organization_id), metadata=[("authorization", f"Bearer {token}")], timeout=30
    )
    expected = 1
    for frame in frames:
        assert frame.seq == expected, f"frame {frame.seq} instead of {expected}"
        expected += 1
        kind = frame.WhichOneof("body")
        if kind in ("snapshot_chunk", "delta"):
            for change in getattr(frame, kind).changes:
                print(change.key, change.version)
        if kind == "bookmark" and frame.bookmark.caught_up:
            print("caught up at", frame.bookmark.rev)
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
