"""A script that calls a protected API every second, while its tokens come and go.

    python -m tokenward provider --port 8001 --access-token-lifetime 5 &
    export OIDC_ISSUER=http://127.0.0.1:8001 OIDC_CLIENT_ID=app OIDC_CLIENT_SECRET=secret
    uvicorn --app-dir examples protected_api.app:app --port 8002 &
    API_URL=http://127.0.0.1:8002 python examples/worker/worker.py

Nothing here knows when a token ends. `--threads 20` makes the calls from a thread
pool, as Celery does: they share one token, and one request for it.
"""

from __future__ import annotations

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tokenward import ClientCredentials, ClientCredentialsTokens
from tokenward.httpx import ClientCredentialsAuth


def open_api(tokens: ClientCredentialsTokens) -> httpx.Client:
    """Return a client for the API that puts a token of ours on every call."""
    tokens.add(
        "worker",
        ClientCredentials(
            os.environ["OIDC_CLIENT_ID"],
            issuer=os.environ["OIDC_ISSUER"],
            client_secret=os.environ["OIDC_CLIENT_SECRET"],
            dangerously_allow_http=True,  # all of this is on one machine
        ),
    )
    api = os.environ["API_URL"]
    auth = ClientCredentialsAuth(tokens, "worker", origins=api, dangerously_allow_http=True)
    return httpx.Client(base_url=api, auth=auth, timeout=30)


def call(api: httpx.Client) -> str:
    """Do the work, and say what came of it."""
    answer = api.get("/invoices")
    if answer.is_error:
        return f"{answer.status_code} {answer.reason_phrase}"
    told = answer.json()
    return f"{answer.status_code} as {told['owner']}, with the token {told['token_fingerprint']}"


def main() -> None:
    """Call the API until it was called often enough, or until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--every", type=float, default=1.0, help="seconds (default: 1)")
    parser.add_argument("--calls", type=int, default=0, help="0: for ever (default)")
    parser.add_argument("--threads", type=int, default=1, help="calls at once (default: 1)")
    options = parser.parse_args()
    done = 0
    with (
        ClientCredentialsTokens() as tokens,
        open_api(tokens) as api,
        ThreadPoolExecutor(options.threads) as pool,
    ):
        while not options.calls or done < options.calls:
            for line in pool.map(call, [api] * options.threads):
                print(line, flush=True)
            done += 1
            time.sleep(options.every)


if __name__ == "__main__":
    main()
