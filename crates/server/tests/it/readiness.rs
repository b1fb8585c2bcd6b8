//! Whether a process is ready depends on the databases of its services.

use foundry_core::Env;
use foundry_server::config::{AdminConfig, ServerConfig};
use foundry_server::{Exit, Metrics, Process, Service, Signals, Upstream};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Probe, SERVICE, bounded, client, get, http_get, prompt_drain};

#[tokio::test]
async fn a_service_without_room_to_write_serves_and_is_not_ready() {
    let (env, metrics) = (Env::system(), Metrics::new().unwrap());
    let mut process = Process::new(env.clone(), prompt_drain(), metrics.clone());
    let service = Service::new("task", [SERVICE], Probe::default().routes());
    let reported = service.health();
    let mounted = service.mount(&ServerConfig::default(), &env, &metrics).await.unwrap();
    let address = process.start(mounted).await.unwrap();
    let admin = AdminConfig { listen: "127.0.0.1:0".parse().unwrap(), ..AdminConfig::default() };
    let admin = process.start_admin(&admin).await.unwrap().unwrap();
    let (readiness, (stop, signals)) = (process.readiness(), Signals::manual());
    let upstream = Upstream::remote(&format!("http://{address}")).unwrap();
    let run = process.run(signals);
    let calls = async {
        let status = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            HealthClient::new(upstream.clone()).check(request).await.unwrap().into_inner().status()
        };
        for (writable, expected) in [
            (true, ServingStatus::Serving),
            (false, ServingStatus::NotServing),
            (true, ServingStatus::Serving),
        ] {
            reported.report_writable(writable).await;
            assert_eq!([status("").await, status(SERVICE).await], [expected; 2]);
            assert_eq!(readiness.is_ready(), writable);
            assert_eq!(http_get(admin, "/readyz").await.starts_with("HTTP/1.1 200"), writable);
            assert!(http_get(admin, "/healthz").await.starts_with("HTTP/1.1 200"), "it lives all the while");
            // What is stored can still be read.
            client(upstream.clone()).get_task(get("echo")).await.unwrap();
        }
        stop.stop();
    };
    let (exit, ()) = bounded(Box::pin(async { tokio::join!(run, calls) })).await;
    assert_eq!(exit, Exit::Clean);
}
