"""Start SGLang's encoder server, and ask it for what it makes of the images.

Its processes load weights: the server itself, the followers of tensor parallelism, and the workers
of data parallelism. A follower that fails leaves a server that waits for it, so that the first
image, too, has to come back within a time.
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
from typing import Any

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
        # One request for each worker: they are asked in turn.
        workers = range(options.get("dp_size", 1))
        write_answers(output, lambda image: agree([_ask(address, image) for _ in workers]))
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


def _ask(address: str, image: Image.Image) -> Answer:
    content = io.BytesIO()
    image.save(content, "png")
    context = zmq.Context()
    receiver = context.socket(zmq.PULL)
    try:
        request = {
            "mm_items": ["data:image/png;base64," + base64.b64encode(content.getvalue()).decode()],
            "modality": "IMAGE",
            "req_id": os.urandom(8).hex(),
            "num_parts": 1,
            "part_idx": 0,
            "prefill_host": _HOST,
            "embedding_port": receiver.bind_to_random_port(f"tcp://{_HOST}"),
        }
        reply = requests.post(f"{address}/encode", json=request, timeout=_ANSWER_S)
        reply.raise_for_status()
        if not receiver.poll(1000 * _ANSWER_S):
            raise SystemExit("the encoder server has sent no embedding")
        *_, embedding = receiver.recv_multipart()
        return {"embedding": hashlib.sha256(embedding).hexdigest()}
    finally:
        context.destroy(linger=0)
