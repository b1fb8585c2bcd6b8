//! The exchange as the streams of the edge use it.

use foundry_edge::{Exchanged, TokenExchange};
use tonic::Status;

use super::Exchange;

#[tonic::async_trait]
impl TokenExchange for Exchange {
    async fn exchange_token(&self, token: &str) -> Result<Exchanged, Status> {
        let exchanged = self.exchange(token).await?;
        Ok(Exchanged {
            caller: exchanged.caller.clone(),
            authorization: exchanged.authorization.clone(),
            number: exchanged.number,
        })
    }

    fn exchanges(&self) -> u64 {
        self.begun()
    }

    async fn renew_since(&self, token: &str, exchanges: u64) -> Result<(), Status> {
        self.exchange_since(token, exchanges).await
    }
}
