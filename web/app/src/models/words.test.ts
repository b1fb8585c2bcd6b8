import { create } from '@bufbuild/protobuf'
import { Code, FoundryError } from '@foundry/client'
import {
  AgentProfileSettingsSchema,
  ModelProviderKind,
  ModelProviderSchema,
  ModelProviderSource,
} from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { ModelTestResult, TestModelProviderResponseSchema } from '@foundry/client/gen/foundry/provisioner/v1/profile_service_pb'
import { expect, test } from 'vitest'
import { refusals } from './refusals'
import { addressProblem, keyProblem, keyText, kindOf, kinds, modelNames, nameProblem, secretsInside, suitable, testStatus } from './words'

test('of a key its end is shown, or that it comes from the environment', () => {
  const key = (more: object, lastFour = 'wxyz') => keyText(create(ModelProviderSchema, { credential: { hasKey: true, lastFour }, ...more }))
  expect(key({})).toBe('…wxyz')
  expect(key({}, '')).toBe('set')
  expect(key({ source: ModelProviderSource.ENVIRONMENT })).toBe('from the environment')
  expect(keyText(create(ModelProviderSchema))).toBe('none')
})

test('a name is short, lowercase and begins with a letter or digit', () => {
  for (const good of ['work', '1.a-b_c', ' work ']) expect(nameProblem(good)).toBeUndefined()
  for (const bad of ['', 'Work', '-a', 'a b', 'x'.repeat(65)]) expect(nameProblem(bad)).toBeTruthy()
})

test('an address begins with http or https', () => {
  for (const good of ['http://127.0.0.1:9', ' https://models.example/v1']) expect(addressProblem(good)).toBeUndefined()
  for (const bad of ['', 'models.example', 'ftp://models.example', 'https://']) expect(addressProblem(bad)).toBeTruthy()
})

test('only the usual place of a kind needs a key', () => {
  const anthropic = kindOf(ModelProviderKind.ANTHROPIC)
  expect(keyProblem(anthropic, `${anthropic.url}/`, false)).toBe('The key is required.')
  expect(keyProblem(anthropic, anthropic.url, true)).toBeUndefined()
  expect(keyProblem(anthropic, 'http://127.0.0.1:9', false)).toBeUndefined()
  expect(keyProblem(kindOf(ModelProviderKind.OPENAI_COMPATIBLE), '', false)).toBeUndefined()
})

test('names of models are told apart by commas and spaces', () => {
  expect(modelNames(' a, b,a\nc,')).toEqual(['a', 'b', 'c'])
})

test('each result of a test has a word of its own, and only one of them is good', () => {
  const results = Object.values(ModelTestResult).filter(
    (it): it is ModelTestResult => typeof it === 'number' && it !== ModelTestResult.UNSPECIFIED,
  )
  const statuses = results.map((result) => testStatus(create(TestModelProviderResponseSchema, { result })))
  expect(new Set(statuses.map((it) => it.word)).size).toBe(results.length)
  expect(statuses.filter((it) => it.word === 'Unknown')).toEqual([])
  expect(statuses.filter((it) => it.tone === 'ok').map((it) => it.word)).toEqual(['Works'])
})

test('an agent is offered the model providers of the kinds that it takes', () => {
  const all = kinds.map(({ kind }) => create(ModelProviderSchema, { kind, modelProviderId: `mpr_${kind}` }))
  expect(suitable(all, ['openai', 'openai-compatible']).map((it) => it.kind)).toEqual([
    ModelProviderKind.OPENAI,
    ModelProviderKind.OPENAI_COMPATIBLE,
  ])
  expect(suitable(all, [])).toEqual([])
})

test('what a refusal says of a field stands at the field, and all else below', () => {
  const refused = (...fields: string[]) =>
    refusals(
      new FoundryError({
        code: Code.InvalidArgument,
        message: 'no',
        fields: fields.map((field) => ({ field, description: 'must be good' })),
      }),
      ['name', 'models'],
    )
  expect(refused('settings.name', 'settings.models[2]')).toEqual({
    at: { name: 'Must be good.', models: 'Must be good.' },
    rest: undefined,
  })
  expect(refused('settings.name', 'settings.names').rest).toBeDefined()
  expect(refused().rest).toBeDefined()
  expect(refusals(undefined, ['name'])).toEqual({ at: {}, rest: undefined })
})

test('the secrets of variables and programs enter the sandbox, those of servers over HTTP do not', () => {
  const secret = (name: string) => ({ name, content: { case: 'secret' as const, value: {} } })
  const settings = create(AgentProfileSettingsSchema, {
    environment: [secret('TOKEN'), { name: 'PLAIN', content: { case: 'value', value: 'x' } }],
    mcpServers: [
      { name: 'files', transport: { case: 'stdio', value: { command: 'x', environment: [secret('DB')] } } },
      { name: 'web', transport: { case: 'http', value: { url: 'https://x', headers: [secret('Authorization')] } } },
      { name: 'old', transport: { case: 'sse', value: { url: 'https://x', headers: [secret('Authorization')] } } },
    ],
  })
  expect(secretsInside(settings)).toEqual(['TOKEN', 'files/DB'])
})
