"""Resolving a fleet into what each site runs, and telling what a change would do."""

import pytest

from manifests.errors import DocumentError
from manifests.load import Loaded, load_text
from manifests.model import Artifact, Blob, Conduit, WorkloadClass, WorkloadRelease
from orchestrator.fleets import ChangeAction, KnownRelease, diff, resolve

DIGEST = "sha256:" + "0" * 64
SCHEMA = {
    "type": "object",
    "properties": {"host": {"type": "string"}, "intervalMs": {"type": "integer", "minimum": 100}},
    "additionalProperties": False,
}


def known(name: str = "modbus", version: str = "1.0.0", digest: str = DIGEST) -> KnownRelease:
    blob = Blob(digest=digest, size=1)
    artifact = Artifact(platform="process", media_type="application/vnd.sluice.process.v1.tar+gzip", root=blob)
    release = WorkloadRelease(
        name=name,
        version=version,
        workload_class=WorkloadClass.TRANSLATOR,
        artifacts=(artifact,),
        config_schema=SCHEMA,
        conduits=(Conduit(segment="ot"),),
    )
    return KnownRelease(release, digest)


RELEASES = {("modbus", "1.0.0"): known(), ("modbus", "1.1.0"): known(version="1.1.0", digest="sha256:" + "1" * 64)}


def documents(assignment: str = "", *, host: str = "${vars.host}", version: str = "1.0.0") -> list[Loaded]:
    return load_text(
        f"""\
apiVersion: sluice/v1
kind: Fleet
metadata: {{name: acme}}
spec:
  enterprise: acme
  vars: {{host: everywhere}}
  sites:
    - {{name: hamburg, labels: {{ring: canary}}, vars: {{host: pump, port: 502}}, nodes: [{{name: edge1}}]}}
    - {{name: leipzig, nodes: [{{name: edge1}}, {{name: edge2}}]}}
---
apiVersion: sluice/v1
kind: Assignment
metadata: {{name: pumps}}
spec:
  workload: modbus
  version: {version}
  config: {{host: "{host}"}}
{assignment}
""",
        "fleet.yaml",
    )


def mistakes(found: list[Loaded]) -> list[tuple[str, str, str]]:
    with pytest.raises(DocumentError) as caught:
        resolve(found, RELEASES, 1)
    return [(p.path, p.what, p.hint) for p in caught.value.problems]


def test_a_sites_own_variable_overrides_the_fleets() -> None:
    states = resolve(documents(), RELEASES, 7)
    assert states["hamburg"].instances[0].instance.config == {"host": "pump"}
    assert states["leipzig"].instances[0].instance.config == {"host": "everywhere"}
    assert states["leipzig"].facts.generation == 7


def test_a_whole_reference_keeps_its_type_and_an_embedded_one_becomes_text() -> None:
    found = documents("  selector: {sites: [hamburg]}", host="${site.name}-${vars.port}")
    assert resolve(found, RELEASES, 1)["hamburg"].instances[0].instance.config == {"host": "hamburg-502"}
    assert mistakes(documents("  selector: {sites: [hamburg]}", host="${vars.port}"))[0][0] == "spec.config.host"


@pytest.mark.parametrize(
    ("selector", "sites"),
    [
        ("{}", {"hamburg", "leipzig"}),
        ("{sites: [leipzig]}", {"leipzig"}),
        ("{matchLabels: {ring: canary}}", {"hamburg"}),
        ("{matchExpressions: [{key: ring, operator: DoesNotExist}]}", {"leipzig"}),
        ("{matchExpressions: [{key: ring, operator: In, values: [canary]}]}", {"hamburg"}),
        ("{matchExpressions: [{key: ring, operator: NotIn, values: [canary]}]}", {"leipzig"}),
        ("{sites: [leipzig], matchLabels: {ring: canary}}", set()),
    ],
)
def test_selectors_choose_sites_as_kubernetes_does(selector: str, sites: set[str]) -> None:
    states = resolve(documents(f"  selector: {selector}"), RELEASES, 1)
    assert {name for name, state in states.items() if state.instances} == sites


def test_every_mistake_is_reported_with_its_remedy() -> None:
    assert mistakes(documents(version="2.0.0"))[0][2] == "published versions: 1.0.0, 1.1.0"
    assert mistakes(documents(host="${vars.hots}"))[0][2] == 'did you mean "vars.host"?'
    assert mistakes(documents("  node: edge2"))[0][1] == 'site "hamburg" has no node "edge2"'
    text = [Loaded(d.document, d.data) for d in documents()]
    assert "no Fleet" in mistakes(text[1:])[0][1]


def test_the_same_mistake_at_many_sites_is_told_once() -> None:
    assert len(mistakes(documents(host="${vars.nothing}"))) == 1


def test_the_releases_schema_judges_the_filled_in_configuration() -> None:
    found = documents()
    wrong = found[1].document
    data = found[1].data["spec"]
    data["config"]["intervalMs"] = 10
    data["config"]["hsot"] = "x"
    import msgspec

    typed = msgspec.convert(found[1].data, type(wrong))
    paths = {path: hint for path, _, hint in mistakes([found[0], Loaded(typed, found[1].data)])}
    assert paths == {"spec.config": 'did you mean "host"?', "spec.config.intervalMs": ""}


def test_diff_says_what_starts_stops_and_restarts_and_why() -> None:
    before = resolve(documents("  selector: {sites: [hamburg]}"), RELEASES, 1)
    after = resolve(documents(version="1.1.0", host="other"), RELEASES, 2)
    found = {change.site: change for change in diff(before, after)}
    assert found["hamburg"].action is ChangeAction.RESTART
    assert found["hamburg"].because == ("version 1.0.0 -> 1.1.0", "config.host pump -> other")
    assert found["leipzig"].action is ChangeAction.START
    assert [c.action for c in diff(after, {})] == [ChangeAction.STOP] * 2
    assert {c.action for c in diff(before, before)} == {ChangeAction.KEEP}
