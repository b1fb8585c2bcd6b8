//! `foundry model`: model providers.

mod limit;

use std::process::ExitCode;

use foundry_proto::provisioner::v1::credential::Secret as Given;
use foundry_proto::provisioner::v1::{
    CreateModelProviderRequest, Credential, DeleteModelProviderRequest, ListModelProvidersRequest,
    ModelPrice, ModelProvider, ModelProviderKind, ModelProviderSettings, ModelProviderSource,
    ModelTestResult, TestModelProviderRequest, UpdateModelProviderRequest,
};
use prost_types::FieldMask;

use crate::cli::Output;
use crate::cli::models::{KeyArgs, Model, ModelKind, ModelSettings};
use crate::client::{Gateway, request_id};
use crate::commands::secret;
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Model) -> Result<ExitCode, Failure> {
    match command {
        Model::Add { name, kind, settings, key } => add(gateway, output, name, kind, &settings, &key).await?,
        Model::List => list(gateway, output).await?,
        Model::Show { model_provider } => {
            let found = resolve(gateway, &model_provider).await?;
            output::one(output, &found, show)?;
        }
        Model::Test { model_provider, model } => return test(gateway, output, &model_provider, model).await,
        Model::Update { model_provider, rename, settings, key, how } => {
            update(gateway, output, &model_provider, rename, &settings, key, &how).await?;
        }
        Model::Remove { model_provider } => {
            let model_provider_id = resolve(gateway, &model_provider).await?.model_provider_id;
            let request = DeleteModelProviderRequest { request_id: request_id(), model_provider_id };
            let answer = gateway.profiles().delete_model_provider(request).await?.into_inner();
            output::one(output, &answer, |_| output::line("removed"))?;
        }
        Model::Usage { task } => limit::usage(gateway, output, task).await?,
        Model::Limit(command) => limit::run(gateway, output, command).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(
    gateway: &Gateway,
    output: Output,
    name: String,
    kind: ModelKind,
    given: &ModelSettings,
    key: &KeyArgs,
) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    let kind = to_proto(kind);
    let mut settings = ModelProviderSettings { name, kind: kind.into(), ..ModelProviderSettings::default() };
    let mut paths = Vec::new();
    apply(&mut settings, &mut paths, given)?;
    // Do not ask for a key if the service refuses this kind anyway.
    let refused = matches!(kind, ModelProviderKind::Bedrock | ModelProviderKind::Vertex);
    if !key.no_key && !refused {
        settings.credential = Some(credential(key)?);
    }
    let request =
        CreateModelProviderRequest { request_id: request_id(), organization_id, settings: Some(settings) };
    let made = gateway.profiles().create_model_provider(request).await?.into_inner().model_provider;
    output::one(output, &made.unwrap_or_default(), |made| {
        output::line(&format!("{}  {}", made.model_provider_id, made.name));
        eprintln!("check it with `foundry model test {}`", made.name);
    })
}

async fn update(
    gateway: &Gateway,
    output: Output,
    wanted: &str,
    rename: Option<String>,
    given: &ModelSettings,
    key: bool,
    how: &KeyArgs,
) -> Result<(), Failure> {
    let found = resolve(gateway, wanted).await?;
    let mut settings = ModelProviderSettings {
        headers: found.headers.clone(),
        prices: found.prices.clone(),
        ..ModelProviderSettings::default()
    };
    let mut paths = Vec::new();
    if let Some(name) = rename {
        settings.name = name;
        paths.push("name".to_owned());
    }
    apply(&mut settings, &mut paths, given)?;
    if key || how.key_env.is_some() || how.bearer {
        settings.credential = Some(credential(how)?);
        paths.push("credential".to_owned());
    } else if how.no_key {
        paths.push("credential".to_owned());
    }
    if paths.is_empty() {
        return Err(Failure::new("no changes given").next("see `foundry model update --help`").exit(2));
    }
    let request = UpdateModelProviderRequest {
        request_id: request_id(),
        model_provider_id: found.model_provider_id,
        settings: Some(settings),
        update_mask: Some(FieldMask { paths }),
        expected_rev: found.rev,
    };
    let made = gateway.profiles().update_model_provider(request).await?.into_inner().model_provider;
    output::one(output, &made.unwrap_or_default(), show)
}

/// Copies the options that were given into the settings, and adds their field paths to the update mask.
fn apply(
    settings: &mut ModelProviderSettings,
    paths: &mut Vec<String>,
    given: &ModelSettings,
) -> Result<(), Failure> {
    if let Some(url) = &given.url {
        settings.base_url.clone_from(url);
        paths.push("base_url".to_owned());
    }
    let headers = secret::entries(&given.headers, &given.secret_headers, false)?;
    if !headers.is_empty() || !given.unset_headers.is_empty() {
        settings.headers = secret::merged(&settings.headers, headers, &given.unset_headers);
        paths.push("headers".to_owned());
    }
    if !given.models.is_empty() || given.any_model {
        settings.models.clone_from(&given.models);
        paths.push("models".to_owned());
    }
    for text in &given.prices {
        let price = price(text)?;
        settings.prices.retain(|p| p.model != price.model);
        settings.prices.push(price);
    }
    if !given.prices.is_empty() {
        paths.push("prices".to_owned());
    }
    Ok(())
}

fn credential(how: &KeyArgs) -> Result<Credential, Failure> {
    let secret = match &how.key_env {
        Some(name) => secret::variable(name)?,
        None => secret::read(if how.bearer { "token" } else { "key" })?,
    };
    let secret = if how.bearer { Given::Bearer(secret) } else { Given::Key(secret) };
    Ok(Credential { secret: Some(secret) })
}

/// Parses `MODEL=IN,OUT[,CACHED]`, prices in USD per million tokens.
fn price(text: &str) -> Result<ModelPrice, Failure> {
    let malformed = || {
        Failure::new(format!(
            "{text} is not MODEL=IN,OUT[,CACHED] with prices in USD, for example opus=3,15,0.3"
        ))
        .exit(2)
    };
    let (model, prices) = text.rsplit_once('=').ok_or_else(malformed)?;
    let prices: Vec<i64> = prices.split(',').map(micros).collect::<Option<_>>().ok_or_else(malformed)?;
    let (input, output, cached) = match prices[..] {
        [input, output] => (input, output, input),
        [input, output, cached] => (input, output, cached),
        _ => return Err(malformed()),
    };
    Ok(ModelPrice {
        model: model.to_owned(),
        input_micros: input,
        output_micros: output,
        cached_input_micros: cached,
    })
}

/// Parses a decimal number into millionths; at most six digits after the point.
fn micros(text: &str) -> Option<i64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || rest.len() > 6 || !digits(whole) || !digits(rest) {
        return None;
    }
    let rest: i64 = format!("{rest:0<6}").parse().ok()?;
    Some(whole.parse::<i64>().ok()? * 1_000_000 + rest)
}

/// Formats millionths as a decimal number.
fn decimal(micros: i64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn to_proto(kind: ModelKind) -> ModelProviderKind {
    match kind {
        ModelKind::Anthropic => ModelProviderKind::Anthropic,
        ModelKind::Openai => ModelProviderKind::Openai,
        ModelKind::OpenaiCompatible => ModelProviderKind::OpenaiCompatible,
        ModelKind::Gemini => ModelProviderKind::Gemini,
        ModelKind::Bedrock => ModelProviderKind::Bedrock,
        ModelKind::Vertex => ModelProviderKind::Vertex,
    }
}

/// Name of a model provider's kind, as on the command line.
pub fn kind_name(provider: &ModelProvider) -> String {
    output::state(provider.kind().as_str_name(), "MODEL_PROVIDER_KIND_").replace('_', "-")
}

fn key_name(provider: &ModelProvider) -> String {
    match &provider.credential {
        Some(c) if c.has_key && c.last_four.is_empty() => "set".to_owned(),
        Some(c) if c.has_key => format!("…{}", c.last_four),
        _ => "none".to_owned(),
    }
}

fn show(provider: &ModelProvider) {
    output::line(&format!("{}  {}", provider.model_provider_id, output::inert(&provider.name)));
    let line = |name: &str, text: &str| output::line(&format!("  {name:<8} {}", output::inert(text)));
    line("kind", &kind_name(provider));
    line("url", &provider.base_url);
    let set = provider.credential.as_ref().and_then(|c| c.set_time.as_ref());
    line("key", format!("{}  {}", key_name(provider), output::time(set)).trim_end());
    for header in &provider.headers {
        line("header", &secret::shown(header));
    }
    let models = if provider.models.is_empty() { "any".to_owned() } else { provider.models.join(", ") };
    line("models", &models);
    for price in &provider.prices {
        let (input, output) = (decimal(price.input_micros), decimal(price.output_micros));
        let cached = decimal(price.cached_input_micros);
        line(
            "price",
            &format!("{}: {input} in, {output} out, {cached} cached USD per million tokens", price.model),
        );
    }
    if provider.source() == ModelProviderSource::Environment {
        let variables = provider.variables.join(", ");
        line("source", &format!("environment of `foundry up` ({variables}); read-only"));
    }
}

async fn list(gateway: &Gateway, output: Output) -> Result<(), Failure> {
    let providers = all(gateway).await?;
    if output == Output::Json {
        return providers.iter().try_for_each(|p| output::json(p).map(|text| output::line(&text)));
    }
    let rows = providers.iter().map(|p| {
        vec![
            p.name.clone(),
            kind_name(p),
            p.base_url.clone(),
            key_name(p),
            if p.models.is_empty() { "any".to_owned() } else { p.models.join(", ") },
            output::state(p.source().as_str_name(), "MODEL_PROVIDER_SOURCE_"),
            p.model_provider_id.clone(),
        ]
    });
    output::table(&["name", "kind", "url", "key", "models", "source", "id"], rows.collect());
    Ok(())
}

async fn all(gateway: &Gateway) -> Result<Vec<ModelProvider>, Failure> {
    of(gateway, &gateway.organization().await?).await
}

/// The model providers of an organization.
pub async fn of(gateway: &Gateway, organization_id: &str) -> Result<Vec<ModelProvider>, Failure> {
    let mut providers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListModelProvidersRequest {
            organization_id: organization_id.to_owned(),
            page_size: 0,
            page_token,
        };
        let page = gateway.profiles().list_model_providers(request).await?.into_inner();
        providers.extend(page.model_providers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(providers);
        }
    }
}

/// Finds a model provider by its name or id.
///
/// # Errors
/// When there is no such model provider.
pub async fn resolve(gateway: &Gateway, wanted: &str) -> Result<ModelProvider, Failure> {
    let found = all(gateway).await?.into_iter().find(|p| p.name == wanted || p.model_provider_id == wanted);
    found.ok_or_else(|| {
        Failure::new(format!("no model provider {wanted}"))
            .next("list them with `foundry model list`, or add one with `foundry model add`")
            .exit(4)
    })
}

async fn test(gateway: &Gateway, output: Output, wanted: &str, model: String) -> Result<ExitCode, Failure> {
    let model_provider_id = resolve(gateway, wanted).await?.model_provider_id;
    let request = TestModelProviderRequest { model_provider_id, model };
    let found = gateway.profiles().test_model_provider(request).await?.into_inner();
    let fine = found.result() == ModelTestResult::Ok;
    output::one(output, &found, |found| {
        let result = output::state(found.result().as_str_name(), "MODEL_TEST_RESULT_");
        let model = if found.model.is_empty() { String::new() } else { format!("  {}", found.model) };
        output::line(&output::inert(&format!(
            "{result}{model}  {}  {} ms",
            found.message, found.duration_millis
        )));
        if !found.next_action.is_empty() {
            output::line(&format!("  next: {}", output::inert(&found.next_action)));
        }
    })?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_prices_in_dollars_and_prints_them_again() {
        let price = price("qwen3:8b=3,15.5,0.000001").unwrap();
        assert_eq!((price.model.as_str(), price.input_micros), ("qwen3:8b", 3_000_000));
        assert_eq!(
            (decimal(price.output_micros), decimal(price.cached_input_micros)),
            ("15.5".into(), "0.000001".into())
        );
        assert_eq!(super::price("m=2,4").unwrap().cached_input_micros, 2_000_000, "as other input");
        for bad in ["m", "m=", "m=1", "m=1,2,3,4", "m=-1,2", "m=1,x", "m=1.0000001,2", "m=1e3,2", "m=.5,1"] {
            assert!(super::price(bad).is_err(), "{bad}");
        }
    }
}
