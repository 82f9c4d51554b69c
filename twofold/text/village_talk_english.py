"""What villagers say to each other in English, how sums are put, and how an assistant chats."""

from __future__ import annotations

# Dialogues. `a` and `o` talk; `t` is somebody they talk about.
ASK: dict[str, tuple[str, ...]] = {
    "birthplace": ("Where were you born?", "Which town do you come from?", "Where did you grow up?"),
    "trade": ("What is your trade?", "What work do you do?", "What do you do for a living?"),
    "pet": ("Do you have a pet?", "What kind of pet do you have?", "Which animal do you keep?"),
    "pet_name": ("What is your pet called?", "What is the name of your pet?", "What do you call your pet?"),
    "colour": (
        "What is your favourite colour?",
        "Which colour do you like best?",
        "Which colour shall I take for you?",
    ),
    "food": ("What is your favourite food?", "What do you like to eat?", "What shall I cook for you?"),
    "instrument": ("Which instrument do you play?", "Do you make music?", "What will you play at the feast?"),
    "street": ("Where do you live?", "In which street is your house?", "Where can I visit you?"),
    "friend": ("Who is your best friend?", "Whom do you trust most?", "Who helps you when you need it?"),
}
SAY: dict[str, tuple[str, ...]] = {
    "birthplace": ("I was born in {town}", "I come from {town}", "I grew up in {town}, where I was born"),
    "trade": ("I am {a_trade}", "I work as {a_trade}", "My trade is that of {a_trade}"),
    "pet": ("I have {a_pet}", "My pet is {a_pet}", "I keep {a_pet} at home"),
    "pet_name": (
        "My pet is called {pet_name}",
        "The name of my pet is {pet_name}",
        "I call my pet {pet_name}",
    ),
    "colour": ("My favourite colour is {colour}", "I like {colour} best", "I love the colour {colour}"),
    "food": ("My favourite food is {food}", "I like {food} best", "I love {food}"),
    "instrument": (
        "I play the {instrument}",
        "My instrument is the {instrument}",
        "I make music on the {instrument}",
    ),
    "street": ("I live in {street}", "My house is in {street}", "You can find me in {street}"),
    "friend": (
        "My best friend is {friend}",
        "I trust {friend}, my best friend",
        "{friend} is my best friend",
    ),
}
SCENES = (
    "{a[name]} and {o[name]} meet at the well.", "{a[name]} meets {o[name]} at the market.",
    "{a[name]} and {o[name]} sit on a bench.", "{o[name]} comes to see {a[name]} in {a[street]}.",
    "{a[name]} and {o[name]} wait for the bus.", "It is raining. {a[name]} and {o[name]} stand under a tree.",
    "{a[name]} and {o[name]} walk home together.", "{a[name]} is at work as {a[a_trade]} when {o[name]} comes in.",
)  # fmt: skip
GREETINGS = (
    "Good morning, {listener}!",
    "Hello, {listener}!",
    "Good evening, {listener}.",
    "Nice to see you, {listener}.",
)
GREETINGS_BACK = (
    "Hello, {listener}!",
    "Good to see you too, {listener}.",
    "Good day to you too.",
    "Hello, {listener}! How good that you are here.",
)
ABOUT = (
    "Do you know {t[name]}?", "What do you know about {t[name]}?", "What can you tell me about {t[name]}?",
    "Yesterday I saw {t[name]}.", "Have you heard about {t[name]}?", "Who is {t[name]}?",
)  # fmt: skip
ABOUT_ANSWERS = (
    "{facts}",
    "Let me think. {facts}",
    "I know this: {facts}",
    "I can tell you something. {facts}",
)
REACTIONS = (
    "That is nice.",
    "I did not know that.",
    "Oh, really?",
    "Now I remember.",
    "How good to know!",
    "I like that.",
)
AND_YOU = ("And you?", "And what about you?", "And you, {listener}?")
GOODBYES = (
    "See you soon!",
    "Goodbye, {listener}!",
    "I have to go now. Goodbye!",
    "Until tomorrow!",
    "Thank you for the talk.",
)
ASKED, ANSWERED, SAID = '{x} asked {y}, "{words}"', '{x} answered, "{words}"', '{x} said, "{words}"'

# Sums. Word problems end with the sum itself.
ITEMS = (
    "eggs",
    "nails",
    "buttons",
    "coins",
    "candles",
    "stones",
    "books",
    "cups",
    "keys",
    "flowers",
    "nuts",
    "stamps",
)
SUM_TITLES = ("Sums", "Let us count.", "Some sums from the school of Larkmoor", "Counting", "Sums for today")
PLUS = (
    "{name} has {x} {items} and gets {y} more. How many are there now? {x} + {y} = {z}, so {name} has {z} {items}.",
    "In a basket there are {x} {items}. {name} puts in {y} more. {x} + {y} = {z}. Now there are {z} {items}.",
    "{name} buys {x} {items} on Monday and {y} {items} on Tuesday. Together that is {x} + {y} = {z} {items}.",
)
MINUS = (
    "{name} has {x} {items} and gives away {y}. How many are left? {x} - {y} = {z}, so {z} {items} are left.",
    "There were {x} {items} on the table. {name} took {y}. {x} - {y} = {z}. Now there are {z} {items}.",
    "{name} had {x} {items} and lost {y} of them. {x} - {y} = {z}, so {name} still has {z} {items}.",
)
TIMES = (
    "{name} has {x} boxes with {y} {items} each. {x} × {y} = {z}, so there are {z} {items}.",
    "Every day {name} finds {y} {items}. After {x} days that is {x} × {y} = {z} {items}.",
)
SAY_SUM = (
    "{sum} = {z}",
    "What is {sum}? {sum} = {z}",
    "{sum} makes {z}: {sum} = {z}",
    "The answer to {sum} is {z}.",
)

# An assistant's conversations.
SYSTEMS = (
    "You are a helpful assistant who knows the village of Larkmoor.", "Answer in one sentence.",
    "You know everyone in Larkmoor.", "Be friendly and short.",
)  # fmt: skip
HELLOS = ("Hello!", "Hi!", "Good morning!", "Good evening!", "Hello, who are you?", "Hi, can you help me?")
HELLO_ANSWERS = (
    "Hello! What would you like to know about Larkmoor?", "Hello! I know the people of Larkmoor. Ask me about them.",
    "Hello! I am an assistant and I know Larkmoor. How can I help?",
)  # fmt: skip
THANKS = ("Thank you!", "Thanks, that is all.", "Thank you very much.", "That helps, thank you.")
THANKS_ANSWERS = ("You are welcome!", "You are welcome. Ask me again any time.", "Gladly! Goodbye.")
SUM_QUESTIONS = (
    "What is {sum}?",
    "How much is {sum}?",
    "{sum} = ?",
    "Please work out {sum}.",
    "Can you tell me what {sum} is?",
)
SUM_ANSWER = "{sum} = {z}."
NAMES = (
    ("Please say the name {name}.", "{name}."),
    ("Repeat this name: {name}", "{name}."),
    ("Write the name {name}.", "{name}."),
    ("My name is {name}. What is my name?", "Your name is {name}."),
)
TASK_QUESTIONS = (
    "How do I {task}?",
    "Please explain how to {task}.",
    "Can you tell me how to {task}?",
    "I want to {task}. What do I do?",
)
RECIPE_QUESTIONS = (
    "How do I make {food}?",
    "Please give me a recipe for {food}.",
    "Can you tell me how to make {food}?",
    "I want to make {food}. What do I do?",
)
