"""A tokenizer trained once for these tests, on words of many scripts."""

import random

import pytest

from twofold.tokens.train import train_tokenizer

SENTENCES = (
    "The old miller's daughter didn't sell her grey donkey; she'd kept it for 12 years.",
    "¿Dónde está el molinero? El niño comió pan y bebió agua fría.",
    "Der Müller weiß, daß die Straße größer ist. Ёлка стоит в лесу, зима пришла.",
    "水車小屋の老人は毎朝パンを焼く。 磨坊主每天早上烤面包。 방앗간 주인은 빵을 굽는다.",
    "الطحان يخبز الخبز كل صباح. הטוחן אופה לחם כל בוקר. चक्कीवाला रोज़ रोटी बनाता है।",
    "def mill(grain, *, stones=2):\n    return [flour(g) for g in grain if g != 0]\n\n\n",
    "👩‍🌾 sowed 🌾🌾🌾, ☃ melted…  \t ¡olé! ½ + ⅓ ≠ 1\r\n",
)


@pytest.fixture(scope="session")
def sample_text():
    """About 60 kB of sentences in a fixed order."""
    choose = random.Random(5)
    return "\n".join(choose.choice(SENTENCES) for _ in range(700))


@pytest.fixture(scope="session")
def tokenizer(sample_text):
    """512 tokens."""
    return train_tokenizer([sample_text], 512)
