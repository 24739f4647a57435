"""Start SGLang's encoder server, and ask it for what it makes of the images.

Its processes load weights: the server itself, the followers of tensor parallelism, and the workers
of data parallelism. One that fails leaves a server that hears, and may never answer, so that they
are looked at while an answer is waited for.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import requests
import zmq
from PIL import Image

from scripts.lib.engine_check.prompts import Answer, agree, write_answers

_HOST = "127.0.0.1"
_START_S, _ANSWER_S = 600, 300  # a worker loads while its first request waits


def encode(checkpoint: str, output: str, options: Mapping[str, Any]) -> None:
    """Start the server with more `options`, and write the hash of each image's embedding."""
    with socket.socket() as free:
        free.bind((_HOST, 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "sglang.launch_server", "--encoder-only"),
        *("--model-path", checkpoint, "--host", _HOST, "--port", str(port)),
        *("--device", "cpu", "--dtype", "bfloat16", "--mm-attention-backend", "sdpa"),
        *("--attention-backend", "torch_native", "--disable-cuda-graph"),
        *("--encoder-transfer-backend", "zmq_to_tokenizer"),
        *(f"--{name.replace('_', '-')}={value}" for name, value in options.items()),
    ]
    server = subprocess.Popen(command)
    try:
        address = f"http://{_HOST}:{port}"
        _wait(server, address)
        ranks = options.get("dp_size", 1)
        started = ranks if ranks > 1 else options["tp_size"] - 1

        def ask(image: Image.Image) -> Answer:
            # Workers are asked in turn.
            return agree([_ask(address, image, server.pid, started) for _ in range(ranks)])

        write_answers(output, ask)
    finally:
        server.kill()
        server.wait()


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the server hears; it has loaded its own weights then."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"the encoder server has ended with {server.returncode}")
        try:
            requests.get(f"{address}/openapi.json", timeout=_ANSWER_S)
        except requests.ConnectionError:
            time.sleep(1)
        else:
            return
    raise SystemExit(f"the encoder server does not hear after {_START_S} s")


def _ask(address: str, image: Image.Image, server: int, started: int) -> Answer:
    """Ask about an image, as long as the server has the processes that it has started."""
    content = io.BytesIO()
    image.save(content, "png")
    receiver = zmq.Context().socket(zmq.PULL)
    request = {
        "mm_items": ["data:image/png;base64," + base64.b64encode(content.getvalue()).decode()],
        "modality": "IMAGE",
        "req_id": os.urandom(8).hex(),
        "num_parts": 1,
        "part_idx": 0,
        "prefill_host": _HOST,
        "embedding_port": receiver.bind_to_random_port(f"tcp://{_HOST}"),
    }
    deadline = time.monotonic() + _ANSWER_S
    reply = ThreadPoolExecutor(1).submit(
        requests.post, f"{address}/encode", json=request, timeout=_ANSWER_S
    )
    while not reply.done():
        if _count_processes(server) < started or time.monotonic() > deadline:
            raise SystemExit("the encoder server has lost a process, or does not answer")
        time.sleep(0.5)
    if not reply.result().ok or not receiver.poll(5000):  # what it sends then is no embedding
        raise SystemExit(f"the encoder server says {reply.result().text}")
    *_, embedding = receiver.recv_multipart()
    return {"embedding": hashlib.sha256(embedding).hexdigest()}


def _count_processes(server: int) -> int:
    """Count the processes that a server has spawned and that have not ended."""
    return sum(
        child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
        for child in psutil.Process(server).children()
    )
