"""What `tokenprune COMMAND --help` says."""

ABOUT = """Training-free visual-token compression for video LLMs.

examples:
  tokenprune run strategy=dycoke+dytok                 on the embedded model and benchmark
  tokenprune run strategy=fastv fastv.drop=0.75 limit=20
  tokenprune run strategy=dycoke+dytok video=clip.mp4 question="What moves?"
  tokenprune list                                      strategies, their options and papers
  tokenprune show strategy=visionzip+dytok             what a pipeline does, without a model
  tokenprune study experiments/tinyvqa_retention.yaml  many strategies at many retentions, as one page of results
  tokenprune sweep strategy=dycoke,fastv keep=0.5,0.25 a grid of strategies and budgets, as one table and two plots
  tokenprune bench strategy=dycoke,fastv out=DIR       time, memory and FLOPs against the dense limit
  tokenprune data export tinyvqa out=DIR n=100         the benchmark as .mp4 files, to look at or to use elsewhere
"""
RUN = """Runs a strategy, the full model and random pruning at the same measured budget on the same samples, prints one
table and writes summary.json, records.jsonl and config.yaml.

keys (KEY=VALUE):
{keys}
  STRATEGY.FIELD   options of a strategy, as in dycoke.merge=0.5 or dytok.layers=[16,23]

examples:
  tokenprune run strategy=dycoke+dytok
  tokenprune run strategy=fastv keep=0.5               half of the visual tokens, mean over LLM layers
  tokenprune run strategy=visionzip+dytok visionzip.keep=0.25 frames=8 limit=40 out=results/vz
  tokenprune run strategy=fastv task=files:DIR/annotations.json
  tokenprune run strategy=dycoke model=llava-hf/llava-onevision-qwen2-7b-ov-hf device=cuda dtype=bfloat16 \\
      video=clip.mp4 question="What happens?"
"""
LIST = """Lists the strategies: where they act, their options with defaults, and their papers.

examples:
  tokenprune list
  tokenprune list --markdown > table.md
"""
SHOW = """Shows what a pipeline does, stage by stage in running order, with the value of every option. Takes the same
words as run, and loads no model.

examples:
  tokenprune show strategy=dycoke+dytok
  tokenprune show strategy=fastv+dytok fastv.layer=3 dytok.cap=20
  tokenprune show strategy=dycoke keep=0.4             which options that sets, for model= and frames=
"""
STUDY = """Runs many strategies at many retentions, alone and guided by an allocator, at equal measured budgets on the
same samples, and writes one page of tables, plots and findings. Finished cells stay in out/cells: a second call, also
after an interruption or with more strategies in the file, runs only what is missing.

FILE is a YAML file of the keys below and of `strategies:`, a list of `spec`, `label` and `options`; words override it.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune study experiments/tinyvqa_retention.yaml
  tokenprune study experiments/tinyvqa_retention.yaml samples=44 assistants=[self] out=runs/small workers=1
"""
SWEEP = """Compares strategies at the same measured token budgets on the same samples, with the full model and random
pruning at every budget, prints one table and writes results.csv, results.parquet and two plots. Commas separate what is
swept. Finished cells stay in out/cells: the same command, also after an interruption, runs only what is missing.

keys (KEY=VALUE):
{keys}
  STRATEGY.FIELD   options of a strategy, which multiply it, as in fastv.layer=1,2 or dytok.layers=[1,2],[3]

examples:
  tokenprune sweep strategy=dycoke,fastv,prumerge+dytok keep=0.5,0.25,0.1
  tokenprune sweep strategy=fastv fastv.layer=1,2,3 keep=0.5 limit=40 out=results/layers
"""
BENCH = """Measures what strategies cost and save (time of each part, memory, cache, FLOPs) beside three references that
take turns with them: the full model, the dense oracle (the stock model given as many visual tokens from the start,
the limit for that budget), and random pruning at the same measured budget. Writes bench.json and bench.png.

model=shape:llava-onevision-0.5b, -7b or -72b builds that architecture with random weights, without a download; so does
shape:FOLDER of any config.json.

keys (KEY=VALUE):
{keys}
  STRATEGY.FIELD   options of a strategy, as in dycoke.merge=0.5

examples:
  tokenprune bench strategy=dycoke,fastv out=runs/bench
  tokenprune bench strategy=dycoke,fastv,dytok+visionzip keep=0.5 model=shape:llava-onevision-7b out=runs/7b
  tokenprune bench strategy=dycoke model=shape:llava-onevision-0.5b vision=random frames=8 new_tokens=8 out=runs/llm
"""
DATA = """Data sets as files.

examples:
  tokenprune data export tinyvqa out=shapes n=100
  tokenprune data export --help
"""
EXPORT = """Writes samples of an embedded task as real video files: out/videos/ID.mp4 (H.264, 8 frames per second) and
out/annotations.json, which lists id, video, question, answer, category, metric and evidence of each. Any tool can
play and read them, and `tokenprune run task=files:out/annotations.json` reads them back.

keys (KEY=VALUE):
{keys}

examples:
  tokenprune data export tinyvqa out=shapes n=100
  tokenprune data export tinyvqa out=long n=50 frames=32 size=192 seed=1
  tokenprune run strategy=dycoke+dytok task=files:shapes/annotations.json
"""

COMPARE = """Compares two finished runs on the samples they share: scores by category, their difference with a paired
95 % interval and McNemar's exact test, tokens and FLOPs.

examples:
  tokenprune compare runs/a runs/b
  tokenprune compare runs/a runs/b out=table.csv       or table.json
"""
