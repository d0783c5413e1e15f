"""What holds for the repository as a whole: settings, scripts, examples, and the source itself."""

from __future__ import annotations

import ast
import json
import os
import re
import secrets
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from tokenward.sealing import KeyRing

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "src" / "tokenward"
SOURCES: Final = sorted(PACKAGE.rglob("*.py"))
SCRIPTS: Final = [
    "scripts/demo",
    "scripts/test",
    "scripts/check",
    "scripts/cases",
    "scripts/soak",
    ".ci/run",
]

FLOORS: Final = {
    # The first release without a known vulnerability in a part that we use, or could.
    "authlib": "1.7.1",  # CVE-2026-44681
    "cryptography": "45.0.1",
    "itsdangerous": "2.2",
    "joserfc": "1.6.8",  # CVE-2026-27932
    "starlette": "1.3.1",  # CVE-2026-54283, CVE-2026-48710
    "redis": "5",  # CVE-2023-28859
}

PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(), filename=str(path))


def nodes(kind: type[ast.AST], *, under: Path = PACKAGE) -> Iterator[tuple[str, ast.AST]]:
    for path, tree in sources():
        if path.is_relative_to(under):
            for node in ast.walk(tree):
                if isinstance(node, kind):
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imports_of(*roots: str, under: Path = PACKAGE) -> list[str]:
    """Say where one of the modules, or a part of it, is imported."""
    return [
        f"{place} imports {name}"
        for kind in (ast.Import, ast.ImportFrom)
        for place, node in nodes(kind, under=under)
        for name in imported(node)
        if any(name == root or name.startswith(f"{root}.") for root in roots)
    ]


def requirements() -> dict[str, Requirement]:
    project = PROJECT["project"]
    optional = [line for extra in project["optional-dependencies"].values() for line in extra]
    parsed = [Requirement(line) for line in [*project["dependencies"], *optional]]
    return {requirement.name: requirement for requirement in parsed}


class TestSource:
    @pytest.mark.case(489)
    def test_no_check_is_an_assert_which_python_removes_when_it_optimizes(self) -> None:
        # The store contract is a test class, and nothing of it runs in an app.
        shipped_tests = "src/tokenward/testing/contracts.py:"
        places = [place for place, _ in nodes(ast.Assert)]
        assert [place for place in places if not place.startswith(shipped_tests)] == []

    @pytest.mark.case(295)
    def test_nothing_unpickles_or_evaluates_what_it_reads(self) -> None:
        forbidden = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "jsonpickle")
        assert imports_of(*forbidden) == []
        calls = [
            place
            for place, node in nodes(ast.Call)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"eval", "exec", "__import__"}
        ]
        assert calls == []

    def test_the_deprecated_and_the_unsafe_parts_of_authlib_are_not_used(self) -> None:
        assert imports_of("authlib.integrations", "authlib.jose") == []

    def test_only_the_adapters_import_an_http_library(self) -> None:
        allowed = {
            "src/tokenward/transport.py",
            "src/tokenward/httpx.py",
            "src/tokenward/httpx2.py",
        }
        found = [
            line
            for line in imports_of("httpx", "httpx2")
            if line.split(":")[0] not in allowed and "/testing/" not in line
        ]
        typing_only = {f"{place} imports" for place in type_checking_imports()}
        assert [line for line in found if not line.startswith(tuple(typing_only))] == []

    def test_the_protocol_layer_has_no_clock(self) -> None:
        clocks = [
            place
            for place, node in nodes(ast.Attribute, under=PACKAGE / "protocol")
            if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
        ]
        assert clocks == []

    def test_imports_between_our_own_modules_are_relative(self) -> None:
        assert imports_of("tokenward") == []

    def test_nothing_is_written_to_standard_output_but_by_commands(self) -> None:
        printing = {
            place.split(":")[0]
            for place, node in nodes(ast.Call)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
        }
        assert printing <= {"src/tokenward/__main__.py"}

    def test_the_package_is_typed(self) -> None:
        assert (PACKAGE / "py.typed").is_file()


def type_checking_imports() -> Iterator[str]:
    for place, node in nodes(ast.If):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            file = place.split(":")[0]
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield f"{file}:{inner.lineno}"


class TestDependencies:
    @pytest.mark.case(478)
    @pytest.mark.case(479)
    @pytest.mark.parametrize("name", sorted(requirements().keys() & FLOORS.keys()))
    def test_lower_bound_admits_no_version_with_a_known_vulnerability(self, name: str) -> None:
        bounds = [
            Version(specifier.version)
            for specifier in requirements()[name].specifier
            if specifier.operator == ">="
        ]
        assert bounds, f"{name} has no lower bound"
        assert max(bounds) >= Version(FLOORS[name])

    @pytest.mark.case(479)
    def test_every_dependency_that_handles_secrets_has_a_floor(self) -> None:
        required = {Requirement(line).name for line in PROJECT["project"]["dependencies"]}
        assert required - {"httpx"} <= FLOORS.keys()  # httpx 0.28 is the only line there is

    def test_tested_versions_satisfy_what_is_required(self) -> None:
        tested = dict(
            line.split("==")
            for line in (ROOT / "constraints.txt").read_text().splitlines()
            if line and not line.startswith("#")
        )
        for name, requirement in requirements().items():
            if name != "tokenward":
                assert requirement.specifier.contains(tested[name]), name

    def test_constraints_name_versions_and_no_place_to_get_them_from(self) -> None:
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith("#")]
        assert [line for line in pins if not re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line)] == []
        assert pins == sorted(pins, key=lambda pin: pin.split("=="))

    def test_the_interop_provider_is_pinned(self) -> None:
        package = json.loads((ROOT / "tests/interop/package.json").read_text())
        versions = package["dependencies"].values()
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)


class TestScripts:
    @pytest.mark.parametrize("script", SCRIPTS)
    def test_is_executable_and_parses(self, script: str) -> None:
        path = ROOT / script
        assert os.access(path, os.X_OK)
        assert path.read_text().startswith("#!/usr/bin/env bash\n")
        subprocess.run(["bash", "-n", str(path)], check=True)

    def test_every_command_of_the_readme_exists(self) -> None:
        text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
        for script in set(re.findall(r"\bscripts/[a-z]+", text)):
            assert os.access(ROOT / script, os.X_OK), script

    def test_cases_prints_the_rows_of_a_marked_test(
        self,
        pytester: pytest.Pytester,
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        plugins = request.config.rootpath / "tests" / "plugins"
        pytester.makeini(f"[pytest]\npythonpath = {plugins}\nmarkers = case(n): row\n")
        pytester.makeconftest('pytest_plugins = ("case_rows",)')
        pytester.makepyfile(
            """
            import pytest
            @pytest.mark.case(1)
            @pytest.mark.case(2)
            def test_a(): raise AssertionError("--cases runs nothing")
            @pytest.mark.parametrize("n", [pytest.param(0, marks=pytest.mark.case(489))])
            def test_b(n): ...
            """
        )
        result = pytester.runpytest_subprocess("--cases=tests")
        result.stdout.fnmatch_lines(["A *2 of  47", "*1 test_*::test_a", "all * 3 of 489"])
        assert result.ret == 0

    def test_a_row_that_does_not_exist_is_refused(
        self,
        pytester: pytest.Pytester,
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        plugins = request.config.rootpath / "tests" / "plugins"
        pytester.makeini(f"[pytest]\npythonpath = {plugins}\nmarkers = case(n): row\n")
        pytester.makeconftest('pytest_plugins = ("case_rows",)')
        pytester.makepyfile("import pytest\n@pytest.mark.case(490)\ndef test_a(): ...")
        assert pytester.runpytest_subprocess().ret == pytest.ExitCode.USAGE_ERROR


@pytest.fixture(scope="module")
def compose() -> dict[str, dict[str, dict[str, object]]]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def realm() -> dict[str, object]:
    return json.loads((ROOT / "deploy" / "keycloak-realm.json").read_text())


@pytest.fixture(scope="module")
def client(realm) -> dict[str, object]:
    return next(client for client in realm["clients"] if client["clientId"] == "app")


class TestCompose:
    def test_the_app_is_told_every_setting_that_it_reads(self, compose) -> None:
        given = compose["services"]["app"]["environment"]
        source = (ROOT / "examples/fastapi_app/settings.py").read_text()
        read = set(re.findall(r'os\.environ(?:\.get)?[\[(]"([A-Z_]+)"', source))
        assert read == given.keys()

    def test_the_secret_key_is_one_that_the_library_takes(self, compose) -> None:
        given = compose["services"]["app"]["environment"]["SECRET_KEY"]
        KeyRing(given.removeprefix("${SECRET_KEY:-").removesuffix("}"))

    def test_the_api_is_told_every_setting_that_it_reads(self, compose) -> None:
        given = compose["services"]["api"]["environment"]
        source = (ROOT / "examples/protected_api/app.py").read_text()
        assert set(re.findall(r'os\.environ\["([A-Z_]+)"', source)) == given.keys()

    @pytest.mark.parametrize(("service", "client_id"), [("app", "app"), ("api", "invoices")])
    def test_service_and_realm_agree_about_the_client(
        self, compose, realm, service: str, client_id: str
    ) -> None:
        environment = compose["services"][service]["environment"]
        client = next(one for one in realm["clients"] if one["clientId"] == client_id)
        assert environment["OIDC_CLIENT_ID"] == client["clientId"]
        assert environment["OIDC_CLIENT_SECRET"] == client["secret"]
        assert environment["OIDC_ISSUER"].endswith(f"/realms/{realm['realm']}")

    def test_the_realm_knows_where_the_app_is(self, compose, client) -> None:
        app = compose["services"]["app"]["environment"]["PUBLIC_URL"]
        assert client["redirectUris"] == [f"{app}/auth/callback"]
        after_logout = client["attributes"]["post.logout.redirect.uris"]
        assert after_logout == f"{app}/auth/logout/callback"

    def test_the_client_may_do_the_code_flow_with_pkce_and_nothing_else(self, client) -> None:
        assert client["standardFlowEnabled"]
        assert client["attributes"]["pkce.code.challenge.method"] == "S256"
        assert not client["publicClient"]
        assert not client["implicitFlowEnabled"]
        assert not client["directAccessGrantsEnabled"]

    def test_refresh_tokens_rotate(self, realm) -> None:
        assert realm["revokeRefreshToken"]
        assert realm["refreshTokenMaxReuse"] == 0

    def test_users_may_have_offline_access(self, realm) -> None:
        assert {user["username"] for user in realm["users"]} == {"alice", "bob"}
        assert all("offline_access" in user["realmRoles"] for user in realm["users"])

    def test_nothing_is_reachable_from_other_machines(self, compose) -> None:
        ports = [p for service in compose["services"].values() for p in service.get("ports", [])]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_the_image_is_made_of_files_that_exist(self, compose) -> None:
        build = compose["services"]["app"]["build"]
        dockerfile = (ROOT / build["dockerfile"]).read_text()
        for line in re.findall(r"^COPY (.+) \S+$", dockerfile, flags=re.MULTILINE):
            for name in line.split():
                assert (ROOT / name).exists(), name
                assert f"!{name}\n" in (ROOT / ".dockerignore").read_text()

    def test_docker_compose_accepts_the_file(self) -> None:
        compose = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml")]
        try:
            subprocess.run([*compose, "version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no docker compose on the PATH")
        profiles = ["--profile", "*", "config", "--quiet"]
        run = subprocess.run([*compose, *profiles], check=False, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")


class TestDocuments:
    def test_the_readme_app_is_complete_and_short(self) -> None:
        code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
        assert len(code.splitlines()) <= 30

    def test_the_readme_app_runs(self, tmp_path: Path) -> None:
        code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
        (tmp_path / "readme.py").write_text(code + "\nprint(*app.openapi()['paths'])\n")
        environment = {**os.environ, "CLIENT_SECRET": "x", "SECRET_KEY": secrets.token_urlsafe(32)}
        run = subprocess.run(
            [sys.executable, "readme.py"],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert (run.stdout, run.stderr) == ("/invoices\n", "")

    def test_links_between_documents_lead_somewhere(self) -> None:
        for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
                assert (document.parent / target).exists(), f"{document.name}: {target}"

    def test_the_architecture_has_its_four_sequence_diagrams(self) -> None:
        text = (ROOT / "docs" / "architecture.md").read_text()
        assert text.count("```mermaid\nsequenceDiagram") >= 4

    def test_the_changelog_has_the_version_of_the_package(self) -> None:
        assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()

    def test_the_licence_is_complete(self) -> None:
        text = (ROOT / "LICENSE").read_text()
        assert "Version 2.0, January 2004" in text
        assert "END OF TERMS AND CONDITIONS" in text


def test_importing_the_package_imports_no_optional_dependency() -> None:
    code = (
        "import sys, tokenward; "
        "print(*sorted(sys.modules.keys() & {'fastapi', 'httpx2', 'redis', 'uvicorn'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == ""
