//! Checks of the wire contract against the descriptors.

use foundry_proto::{Frame, common, task, watch};
use prost::Message as _;

#[test]
fn a_typed_watch_response_decodes_as_one_raw_frame() {
    use task::v1::{
        OrganizationChange, OrganizationDelta, OrganizationItem, TaskSummary, WatchOrganizationResponse,
        organization_change, organization_item, watch_organization_response,
    };
    let item = OrganizationItem {
        item: Some(organization_item::Item::Task(TaskSummary { task_id: "t".into(), ..Default::default() })),
    };
    let typed = WatchOrganizationResponse {
        seq: 3,
        from_rev: 8,
        body: Some(watch_organization_response::Body::Delta(OrganizationDelta {
            to_rev: 9,
            changes: vec![OrganizationChange {
                key: "task/t".into(),
                version: 9,
                op: Some(organization_change::Op::Upsert(item.clone())),
            }],
            more: false,
        })),
    };
    let frame = Frame::decode(typed.encode_to_vec().as_slice()).unwrap();
    let Some(foundry_frame::RawBody::Delta(delta)) = frame.raw().unwrap().body else { panic!("no delta") };
    let Some(foundry_frame::RawOp::Upsert(bytes)) = &delta.changes[0].op else { panic!("no upsert") };
    assert_eq!((frame.seq, frame.from_rev, delta.to_rev), (3, 8, 9));
    assert_eq!(OrganizationItem::decode(bytes.clone()).unwrap(), item);
    assert_eq!(frame.encode_to_vec(), typed.encode_to_vec());
}

#[test]
fn roles_are_ordered_so_that_each_includes_the_ones_below() {
    use common::v1::Role;
    assert!(Role::Viewer < Role::Member && Role::Member < Role::Admin && Role::Admin < Role::Owner);
    assert_eq!(watch::v1::Drain::default().deadline_time, None);
}
