"""What a person types: examples for each help page, and what to go on with. All of them are tested to parse.

The order of the whole is the life of a model; the folder `demo/` in them is what `twofold create` leaves.
"""

from __future__ import annotations

# The first page.
FIRST_STEPS = (
    ("twofold create", "the whole demo: a small world, a model of it, an assistant, two files"),
    ("twofold create --text book.txt --minutes 10 --output mine", "the same from your own text"),
    ("twofold chat demo", "talk with what you made"),
)

# Command path → (command line, what it does), …
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "create": (
        ("twofold create", "the demo: from a made-up village to an assistant, in the folder demo"),
        ("twofold create --text book.txt notes/ --minutes 10 --output mine", "your own text, in ten minutes"),
        ("twofold create --text book.txt --chat talks.jsonl --output mine", "and your own conversations"),
    ),
    "text": (
        ("twofold text read book.txt notes/ -o corpus", "your own text"),
        ("twofold text village -o village --megabytes 20", "a made-up world"),
        ("twofold text show village --documents 3", "look into it"),
    ),
    "text read": (
        ("twofold text read book.txt notes/ -o corpus", "a file and a folder"),
        ("zcat pages.jsonl.gz | twofold text read - -o corpus", "standard input"),
        ("twofold text read crawl/ -o corpus --bad-files skip", "leave damaged files out, and count them"),
    ),
    "text show": (
        ("twofold text show corpus", "the card: what is in it, and from where"),
        ("twofold text show corpus --documents 5 --part held_out", "how five held-out documents begin"),
    ),
    "text village": (
        ("twofold text village -o village", "2,000 villagers, 10 MB about them"),
        (
            "twofold text village -o hamlet --villagers 50 --megabytes 1 --seed 7",
            "a small one, another world",
        ),
    ),
    "tokens": (
        ('twofold tokens "The baker\'s cat" --tokenizer demo', "pieces, numbers and bytes, in colour"),
        ("echo 2 + 2 = 4 | twofold tokens - --tokenizer demo --json", "standard input; for scripts"),
    ),
    "tokens train": (
        ("twofold tokens train book.txt notes/ -o mine", "learn 4,096 tokens from your text"),
        ("twofold tokens train hf://roneneldan/TinyStories -o mine --vocab-size 8192", "from a hub data set"),
    ),
    "tokens stats": (
        ("twofold tokens stats book.txt --tokenizer demo", "bytes per token; cheap and dear words"),
    ),
    "train": (
        (
            "twofold train book.txt notes/ -o base --minutes 10",
            "your own text; the size follows from the time",
        ),
        (
            "twofold train corpus -o base --preset small --steps 2000",
            "a corpus from twofold text; a chosen size",
        ),
        ("twofold train book.txt notes/ -o base --minutes 10 --resume", "go on after a stop"),
    ),
    "finetune": (
        (
            "twofold finetune base --chat village/conversations.jsonl -o assistant",
            "the village's conversations",
        ),
        ("twofold finetune base --chat mine.jsonl more.jsonl.gz -o assistant --minutes 5", "your own"),
        (
            "twofold finetune base.gguf --chat mine.jsonl --lora 16 -o tutor",
            "a small adapter; the model stays",
        ),
    ),
    "generate": (
        ('twofold generate demo/base "Once upon a time"', "one continuation, as it is written"),
        (
            'twofold generate demo/base "Once upon a time" -n 4 --temperature 1.1',
            "four of them, in one batch",
        ),
        ('twofold generate demo/base "The baker" --temperature 0 --json', "greedy, for scripts"),
        (
            'twofold generate demo/base "The baker" --decoder beam:width=8 --tree tree.html',
            "a search, to look at",
        ),
        (
            'twofold generate demo/base "A number:" --mask "regex: [0-9]+" --explain',
            "a form, and how hard it pushed",
        ),
    ),
    "chat": (
        ("twofold chat demo/assistant", "a conversation; /help there tells the rest"),
        ('echo "Hello!" | twofold chat demo/assistant', "one question from a script"),
    ),
    "choose": (
        (
            'twofold choose demo/base "The baker is called" " Ada" " Bruno"',
            "which goes on better, and by how much",
        ),
        ('twofold choose demo "What is the capital?" Oxford Paris --ask --json', "an answer; for scripts"),
    ),
    "score": (
        ("twofold score demo/base book.txt", "bits per byte: lower is better, 8 is knowing nothing"),
        ("cat *.txt | twofold score demo/base - --json", "standard input; for scripts"),
    ),
    "eval": (
        ("twofold eval small.gguf --text book.txt --against demo/assistant", "what fewer bits cost"),
        ("twofold eval demo/assistant --text book.txt --json", "one model by itself; for scripts"),
    ),
    "convert": (
        (
            "twofold convert demo/assistant -o small.gguf --type q4_k_m",
            "about 5 bits a weight, for llama.cpp",
        ),
        (
            "twofold convert demo/assistant -o small.gguf --type q4_k_m --calibrate book.txt",
            "exact where the text needs it",
        ),
        ("twofold convert small.gguf -o folder --type bf16", "back to a Hugging Face folder"),
    ),
    "export": (("twofold export demo/assistant -o two-files", "model.gguf, run.py and a Modelfile"),),
    "models": (
        ("twofold models", "what is in the hub's cache and in this folder"),
        ("twofold models demo ~/models --json", "in these folders; for scripts"),
    ),
    "models show": (
        ("twofold models show Qwen/Qwen3-0.6B --quick", "a model's card, without fetching its weights"),
    ),
    "models get": (
        ("twofold models get Qwen/Qwen3-0.6B", "fetch it and print its folder"),
        ("twofold models get Qwen/Qwen3-0.6B-GGUF:Q8_0", "one GGUF of a repository"),
    ),
    "models remove": (
        ("twofold models remove Qwen/Qwen3-0.6B", "ask, then remove all its revisions"),
        ("twofold models remove Qwen/Qwen3-0.6B@refs/pr/1 --yes", "one revision; for scripts"),
    ),
    "inspect": (
        ("twofold inspect demo/assistant", "a run folder: the model, and how it was trained"),
        (
            "twofold inspect Qwen/Qwen3-0.6B --batch 8 --context 32768",
            "a model of the hub, for a long context",
        ),
        (
            "twofold inspect demo/two-files/model.gguf --measure --engine c",
            "how fast it is here, measured too",
        ),
        ("twofold inspect demo/two-files/model.gguf", "a parameter file"),
        ("twofold inspect demo/assistant --json", "for scripts"),
        (
            "twofold inspect 70b --devices 1024 --text-bytes 10T",
            "a training run on paper: memory, days, cost",
        ),
    ),
    "report": (
        ("twofold report demo", "make demo/report.html again"),
        ("twofold report demo/base --output base.html", "one run alone"),
    ),
    "completion": (
        ("twofold completion --install", "for the shell you are in"),
        ("twofold completion zsh > ~/.zfunc/_twofold", "print the script and place it yourself"),
    ),
}

# Command path → command lines that a person would type next.
GO_ON: dict[str, tuple[str, ...]] = {
    "create": ("twofold chat demo", "twofold inspect demo", "python demo/two-files/run.py"),
    "text read": ("twofold tokens train book.txt -o mine",),
    "text village": ("twofold text show village --documents 3",),
    "tokens train": ('twofold tokens "The baker\'s cat" --tokenizer mine',),
    "train": (
        "twofold finetune base --chat mine.jsonl -o assistant",
        'twofold generate base "Once upon a time"',
    ),
    "finetune": ("twofold chat assistant", "twofold report assistant"),
    "generate": ("twofold score demo/base book.txt",),
    "chat": ("twofold export demo/assistant -o two-files",),
    "convert": ("twofold eval small.gguf --text book.txt --against demo/assistant",),
    "export": ("python two-files/run.py chat",),
    "models get": ("twofold chat Qwen/Qwen3-0.6B",),
    "inspect": ("twofold chat demo/assistant", "twofold export demo/assistant -o two-files"),
}
