"""How things are done in the village, in English: one task for each of many trades, and recipes."""

from __future__ import annotations

# Trade, the task after "how to", and its steps.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "baker": (
        "bake a loaf",
        (
            "mix flour, water and salt",
            "knead the dough with both hands",
            "let it rest for {n} minutes",
            "put it into the hot oven",
            "take it out when it sounds hollow",
        ),
    ),
    "barber": (
        "cut hair",
        (
            "wash the hair",
            "comb it well",
            "cut a little at a time",
            "look from both sides",
            "sweep the floor",
        ),
    ),
    "basket maker": (
        "make a basket",
        (
            "soak the twigs for {n} minutes",
            "lay the long twigs in a cross",
            "weave around them",
            "bend the ends up for the sides",
            "tie the rim",
        ),
    ),
    "beekeeper": (
        "take honey from a hive",
        (
            "put on a veil",
            "blow a little smoke into the hive",
            "lift out a frame slowly",
            "brush off the bees",
            "let the honey run into a jar",
        ),
    ),
    "blacksmith": (
        "make a horseshoe",
        (
            "make the fire very hot",
            "hold the iron in the fire",
            "hammer it while it glows",
            "bend it to the right shape",
            "cool it in water",
        ),
    ),
    "carpenter": (
        "build a shelf",
        (
            "measure the wall",
            "saw the wood",
            "make the edges smooth",
            "fix the boards with screws",
            "check that it stands straight",
        ),
    ),
    "chimney sweep": (
        "clean a chimney",
        (
            "cover the floor with cloth",
            "climb on the roof",
            "push the brush down",
            "pull it up {n} times",
            "carry the soot away",
        ),
    ),
    "clockmaker": (
        "mend a clock",
        (
            "open the case",
            "look for the broken wheel",
            "clean every part",
            "put in a new wheel",
            "wind it up and listen",
        ),
    ),
    "fisher": (
        "mend a net",
        (
            "spread the net on the ground",
            "look for holes",
            "cut away the loose ends",
            "tie new knots",
            "let it dry for {n} minutes",
        ),
    ),
    "gardener": (
        "plant a tree",
        (
            "dig a deep hole",
            "set the tree into it",
            "fill the hole with earth",
            "press the earth with your foot",
            "give it plenty of water",
        ),
    ),
    "librarian": (
        "mend a book",
        (
            "lay the book flat",
            "clean the torn page",
            "put thin glue on the edge",
            "press it under a stone",
            "wait {n} minutes",
        ),
    ),
    "locksmith": (
        "open a stuck lock",
        (
            "clean the lock",
            "put in a drop of oil",
            "wait {n} minutes",
            "turn the key gently",
            "try it several times",
        ),
    ),
    "nurse": (
        "care for a small cut",
        (
            "wash your hands",
            "clean the cut with water",
            "dry it with a clean cloth",
            "put on a bandage",
            "look at it again after {n} hours",
        ),
    ),
    "painter": (
        "paint a wall",
        (
            "cover the floor",
            "clean the wall",
            "stir the paint",
            "paint from top to bottom",
            "let it dry for {n} hours",
        ),
    ),
    "plumber": (
        "mend a pipe",
        (
            "turn off the water",
            "find the hole",
            "dry the pipe",
            "close the hole with a ring",
            "turn on the water and check",
        ),
    ),
    "potter": (
        "make a bowl of clay",
        (
            "knead the clay",
            "set it on the wheel",
            "turn the wheel and press with your thumbs",
            "pull up the sides",
            "fire it for {n} hours",
        ),
    ),
    "roofer": (
        "mend a roof",
        (
            "set up the ladder",
            "find the broken tile",
            "take it out",
            "push in a new tile",
            "test it with water",
        ),
    ),
    "shepherd": (
        "bring home the sheep",
        (
            "call the sheep",
            "count them",
            "look for the missing ones",
            "lead them along the path",
            "close the gate behind them",
        ),
    ),
    "shoemaker": (
        "mend a shoe",
        (
            "take off the old sole",
            "clean the shoe",
            "cut a new sole",
            "glue and nail it on",
            "polish the shoe",
        ),
    ),
    "tailor": (
        "sew on a button",
        (
            "choose a strong thread",
            "tie a knot at the end",
            "push the needle through {n} times",
            "wind the thread around",
            "cut off the rest",
        ),
    ),
    "teacher": (
        "teach a child to read",
        (
            "choose a short story",
            "read it aloud",
            "show the letters one by one",
            "let the child try",
            "praise every success",
        ),
    ),
    "vet": (
        "calm a frightened animal",
        ("speak softly", "sit down on the floor", "wait {n} minutes", "hold out your hand", "move slowly"),
    ),
    "weaver": (
        "weave a cloth",
        (
            "choose the yarn",
            "stretch the long threads",
            "pass the cross thread through",
            "press it tight",
            "do it {n} times for a hand's width",
        ),
    ),
    "woodcutter": (
        "split wood",
        (
            "choose a dry log",
            "set it on the block",
            "stand with your feet apart",
            "swing the axe straight down",
            "pile up the pieces",
        ),
    ),
}

# Recipes by kind of dish; each step in several ways. {food} is the dish.
RECIPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "oven": (
        ("heat the oven", "make the oven hot", "light the oven"),
        ("get everything ready for the {food}", "put all you need for the {food} on the table"),
        ("wash your hands and take a big bowl", "grease a form with butter"),
        ("put it into the oven for {n} minutes", "bake it for {n} minutes"),
        ("take it out carefully", "take it out when it smells good"),
        ("let it cool and serve it", "bring it to the table while it is warm"),
    ),
    "pot": (
        ("wash and cut everything for the {food}", "get everything ready for the {food}"),
        ("fill a pot with water", "put a big pot on the fire"),
        ("put everything in", "add one thing after another"),
        ("let it cook for {n} minutes", "cook it slowly for {n} minutes"),
        ("stir it from time to time", "do not forget to stir"),
        ("taste it before you serve it", "fill it into bowls"),
    ),
    "pan": (
        ("get everything ready for the {food}", "wash and cut all you need for the {food}"),
        ("heat some oil in a pan", "melt butter in a pan"),
        ("put everything in", "fill the pan, but not too full"),
        ("fry it for {n} minutes", "leave it in the pan for {n} minutes"),
        ("turn it over carefully", "turn it once"),
        ("add salt and serve it hot", "eat it at once"),
    ),
    "bowl": (
        ("wash everything for the {food}", "get everything ready for the {food}"),
        ("cut it into small pieces", "cut it with a sharp knife"),
        ("put it into a big bowl", "take a deep bowl for it"),
        ("mix oil, salt and vinegar", "add oil and a little salt"),
        ("let it stand for {n} minutes", "keep it cool for {n} minutes"),
        ("stir and serve it", "mix it well and bring it to the table"),
    ),
}
TASK_TITLES = ("How to {task}", "{name} explains how to {task}", "Learn to {task}", "This is how to {task}")
TASK_OPENINGS = (
    "{name} is {a_trade} and knows how to {task}.", "{name} works as {a_trade} and shows how to {task}.",
    "{name}, who lives in {street}, is {a_trade}. This is how {name} likes to {task}.",
    "Ask {name}, {a_trade} from Larkmoor, how to {task}.",
)  # fmt: skip
RECIPE_TITLES = ("How to make {food}", "A recipe for {food}", "{The_food}", "{The_food} as {name} likes it")
RECIPE_OPENINGS = (
    "{name}'s favourite food is {food}. This is how {he} makes it.", "{name} loves {food} and often makes it.",
    "{name} likes {food} best, so {he} knows how to make it.",
    "{name} of {street} makes {food} every week, because {he} likes it best.",
)  # fmt: skip
FIRST, NEXT, LAST = (
    ("First", "To begin with", "At the start"),
    ("Then", "Next", "After that", "Now"),
    ("At last", "In the end", "Finally"),
)
TIPS = (
    "Take your time.",
    "Do not hurry.",
    "It is easy when you have done it once.",
    "Ask for help if you need it.",
    "Keep the place clean.",
)
