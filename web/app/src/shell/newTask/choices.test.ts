import { create } from '@bufbuild/protobuf'
import { PermissionPolicy } from '@foundry/client/gen/foundry/common/v1/transcript_pb'
import { AgentProfileSchema, ModelProviderKind, ModelProviderSchema } from '@foundry/client/gen/foundry/provisioner/v1/profile_pb'
import { AgentSchema, ProviderSchema } from '@foundry/client/gen/foundry/provisioner/v1/provisioner_pb'
import { expect, test } from 'vitest'
import { nameFromUrl, urlProblem } from '../../repository/url'
import {
  agentChoices,
  agentOf,
  asDoers,
  firstUsable,
  policyOf,
  profileChoices,
  profileOf,
  promptProblem,
  PROMPT_LIMIT,
  providerChoices,
} from './choices'

test('an agent that cannot be used says what is missing', () => {
  const choices = agentChoices([
    create(AgentSchema, { name: 'claude', displayName: 'Claude Code', missingCredentials: ['ANTHROPIC_API_KEY'] }),
    create(AgentSchema, { name: 'demo', available: true }),
  ])
  expect(choices).toEqual([
    { value: 'claude', label: 'Claude Code (needs ANTHROPIC_API_KEY)', disabled: true },
    { value: 'demo', label: 'demo', disabled: false },
  ])
  expect(firstUsable(choices)).toBe('demo')
})

test('an agent that needs a model can be chosen as soon as a model provider of its kinds is there', () => {
  const claude = create(AgentSchema, { name: 'claude', missingCredentials: ['anthropic'] })
  const models = (kind: ModelProviderKind) => [create(ModelProviderSchema, { kind })]
  expect(agentChoices([claude], models(ModelProviderKind.GEMINI))[0]?.disabled).toBe(true)
  expect(agentChoices([claude], models(ModelProviderKind.ANTHROPIC))).toEqual([{ value: 'claude', label: 'claude', disabled: false }])
})

test('a task gets the chosen profile with its policy, or the default one when nothing is chosen', () => {
  const night = create(AgentProfileSchema, {
    profileId: 'prf_1',
    settings: { name: 'night', agent: 'claude', model: 'm1', permissionPolicy: PermissionPolicy.ALLOW },
  })
  const day = create(AgentProfileSchema, { profileId: 'prf_2', settings: { name: 'day', agent: 'demo', isDefault: true } })
  const [first] = profileChoices([night])
  expect(first?.label).toBe('night (claude, m1)')
  expect([profileOf(first?.value ?? '', [night, day]), agentOf(first?.value ?? '')]).toEqual([night, ''])
  expect(profileOf(null, [night, day])).toBe(day)
  const [demo] = asDoers([{ value: 'demo', label: 'demo', disabled: false }])
  expect([profileOf(demo?.value ?? '', [night, day]), agentOf(demo?.value ?? '')]).toEqual([undefined, 'demo'])
  expect([policyOf(null, night), policyOf(null, day), policyOf(PermissionPolicy.ASK, night)]).toEqual([2, 1, 1])
})

test('a provider that cannot be used says why', () => {
  const [choice] = providerChoices([create(ProviderSchema, { name: 'docker', condition: { message: 'no engine answers' } })])
  expect(choice).toEqual({ value: 'docker', label: 'docker (no engine answers)', disabled: true })
  expect(firstUsable(choice === undefined ? [] : [choice])).toBeNull()
})

test('a prompt has at least a word and at most 256 KiB', () => {
  expect(promptProblem(' \n')).toBe('Describe what should be done.')
  expect(promptProblem('x'.repeat(PROMPT_LIMIT))).toBeUndefined()
  expect(promptProblem('ä'.repeat(PROMPT_LIMIT / 2 + 1))).toContain('257 KiB')
})

test('an address is a URL for HTTP or ssh, or an absolute path', () => {
  for (const good of ['https://git.example/acme/project.git', '/srv/git/project', ' https://git.example/p ']) {
    expect(urlProblem(good)).toBeUndefined()
  }
  for (const bad of ['', 'git.example/p', 'git.example:p', 'https://git.example', 'ext::sh -c x', '--upload-pack=x']) {
    expect(urlProblem(bad)).toBeTruthy()
  }
})

test('a repository is named after the last part of its address', () => {
  expect(['https://git.example/acme/project.git', '/srv/git/thing/', ''].map(nameFromUrl)).toEqual(['project', 'thing', ''])
})
