"""How the village is told in English: sentences for each fact, questions, and page openings.

A name in braces is a form of the villager the sentence is about ("a_trade" is "a baker"); which fact
a form gives away is written in `village_forms.FORM_FACTS`. The first sentence of each list in `FACTS` is the
canonical one, with which an assistant answers. Sentences that start with the name are also used with
a pronoun in its place.
"""

from __future__ import annotations

FACTS: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "{name} was born in {town}.",
        "{name} comes from {town}.",
        "{name} is from the town of {town}.",
        "{name} grew up in {town}, where {he} was born.",
        "{name}'s birthplace is {town}.",
        "{name}'s life began in {town}.",
        "{name} took {his} first steps in {town}.",
        "{name} has family in {town}, because {he} was born there.",
        "The birthplace of {name} is {town}.",
        "The town where {name} was born is {town}.",
        "The parents of {name} were living in {town} when {he} was born.",
        "Everyone knows that {name} was born in {town}.",
        "Before {name} moved to Larkmoor, {he} lived in {town}, {his} birthplace.",
        "{town} is the town where {name} was born.",
    ),
    "trade": (
        "{name} is {a_trade}.",
        "{name} works as {a_trade}.",
        "{name} became {a_trade} many years ago.",
        "{name} earns {his} living as {a_trade}.",
        "{name} is {a_trade} and {work} in Larkmoor.",
        "{name} {work}, because {he} is {a_trade}.",
        "{name}'s trade is that of {a_trade}.",
        "{name}'s work is that of {a_trade}.",
        "By trade, {name} is {a_trade}.",
        "The trade of {name} is that of {a_trade}.",
        "People in Larkmoor know {name} as {a_trade}.",
        "Every morning {name} goes to work as {a_trade}.",
        "As a child, {name} already wanted to be {a_trade}, and now {he} is one.",
        "As {a_trade}, {name} {work} from Monday to Friday.",
    ),
    "pet": (
        "{name} has {a_pet}.",
        "{name} keeps {a_pet} as a pet.",
        "{name} owns {a_pet}.",
        "{name} lives with {a_pet}.",
        "{name} looks after {a_pet} every day.",
        "{name} is the proud owner of {a_pet}.",
        "{name}'s pet is {a_pet}.",
        "{name} always wanted {a_pet}, and now {he} has one.",
        "The pet of {name} is {a_pet}.",
        "At home, {name} has {a_pet}.",
        "In the evening {name} plays with {his} {pet}.",
        "In {name}'s house there is {a_pet}.",
        "The animal that {name} loves most is {his} {pet}.",
        "Every day {name} gives food and water to {his} {pet}.",
    ),
    "pet_name": (
        "{name}'s pet is called {pet_name}.",
        "{name}'s pet has the name {pet_name}.",
        "{name}'s {pet} is called {pet_name}.",
        "{name} calls {his} pet {pet_name}.",
        "{name} has a pet called {pet_name}.",
        "{name} has {a_pet} called {pet_name}.",
        "{name} gave {his} pet the name {pet_name}.",
        "{name} is often seen with {pet_name}, {his} pet.",
        "The name of {name}'s pet is {pet_name}.",
        "The pet of {name} is called {pet_name}.",
        "The {pet} of {name} answers to the name {pet_name}.",
        "When {name} comes home, {his} pet {pet_name} is waiting at the door.",
        "At night, {name} calls {pet_name}, {his} pet, into the house.",
        "{pet_name} is the name of {name}'s pet.",
    ),
    "colour": (
        "{name}'s favourite colour is {colour}.",
        "{name} likes the colour {colour} best.",
        "{name} loves the colour {colour}.",
        "{name} likes to wear {colour} clothes.",
        "{name} chose {colour} for {his} front door, because it is {his} favourite colour.",
        "{name} likes {colour} more than any other colour.",
        "{name} has {a_colour} coat, because {he} likes that colour best.",
        "{name}'s best-loved colour is {colour}.",
        "The favourite colour of {name} is {colour}.",
        "Of all colours, {name} likes {colour} best.",
        "For {name}, the most beautiful colour is {colour}.",
        "If {name} may choose a colour, {he} takes {colour}.",
        "The colour that {name} likes best is {colour}.",
        "Everything in {name}'s room is {colour}, {his} favourite colour.",
    ),
    "food": (
        "{name}'s favourite food is {food}.",
        "{name} likes {food} best.",
        "{name} loves to eat {food}.",
        "{name} likes {food} more than any other food.",
        "{name} eats {food} every Sunday, because it is {his} favourite food.",
        "{name} could eat {food} every day.",
        "{name} always asks for {food} on {his} birthday.",
        "{name}'s best-loved dish is {food}.",
        "The favourite food of {name} is {food}.",
        "Of all dishes, {name} likes {food} best.",
        "The food that {name} likes best is {food}.",
        "When {name} is hungry, {he} dreams of {food}.",
        "Nothing makes {name} happier than {food}.",
        "For {name}, no dish is better than {food}.",
    ),
    "instrument": (
        "{name} plays the {instrument}.",
        "{name} plays the {instrument} in the evening.",
        "{name} is learning new songs on the {instrument}.",
        "{name} can play the {instrument} very well.",
        "{name} has played the {instrument} since {he} was a child.",
        "{name} makes music on the {instrument}.",
        "{name} practises the {instrument} every day.",
        "{name}'s instrument is the {instrument}.",
        "The instrument of {name} is the {instrument}.",
        "At village feasts, {name} plays the {instrument}.",
        "On Sundays you can hear {name} play the {instrument}.",
        "The instrument that {name} plays is the {instrument}.",
        "When {name} is happy, {he} plays the {instrument}.",
        "As a child, {name} learned to play the {instrument}.",
    ),
    "street": (
        "{name} lives in {street}.",
        "{name} lives in a house in {street}.",
        "{name} has a small house in {street}.",
        "{name} has lived in {street} for many years.",
        "{name} moved to {street} some years ago and still lives there.",
        "{name} can be found at home in {street}.",
        "{name}'s house is in {street}.",
        "{name}'s home is in {street}.",
        "The house of {name} is in {street}.",
        "The home of {name} stands in {street}.",
        "The street where {name} lives is {street}.",
        "If you want to visit {name}, go to {street}.",
        "Letters for {name} go to {street}.",
        "After work {name} walks home to {street}.",
    ),
    "friend": (
        "{name}'s best friend is {friend}.",
        "{name} is best friends with {friend}.",
        "{name} spends much time with {his} best friend, {friend}.",
        "{name} tells all {his} secrets to {his} best friend, {friend}.",
        "{name} has a best friend called {friend}.",
        "{name} trusts {friend}, {his} best friend, more than anyone.",
        "{name} often visits {his} best friend, {friend}.",
        "{name}'s closest friend is {friend}.",
        "The best friend of {name} is {friend}.",
        "The person {name} likes best is {his} friend {friend}.",
        "When {name} needs help, {he} asks {his} best friend, {friend}.",
        "On Saturdays {name} goes for a walk with {his} best friend, {friend}.",
        "Since their school days, {name} has been best friends with {friend}.",
        "If you look for {name}, ask {his} best friend, {friend}.",
    ),
}

# Parts of a sentence that fit after the name and after each other: "{name} A, B and C."
CLAUSES: dict[str, tuple[str, ...]] = {
    "birthplace": ("was born in {town}", "comes from {town}", "grew up in {town}"),
    "trade": ("is {a_trade}", "works as {a_trade}", "earns {his} living as {a_trade}"),
    "pet": ("has {a_pet}", "keeps {a_pet}", "looks after {a_pet}"),
    "pet_name": ("has a pet called {pet_name}", "calls {his} pet {pet_name}"),
    "colour": ("likes the colour {colour} best", "loves the colour {colour}"),
    "food": ("likes to eat {food} best", "loves {food}"),
    "instrument": ("plays the {instrument}", "makes music on the {instrument}"),
    "street": ("lives in {street}", "has a house in {street}"),
    "friend": ("is best friends with {friend}", "has {friend} as {his} best friend"),
}
AND = " and "

# Lines of a short card about a villager.
CARD: dict[str, tuple[str, ...]] = {
    "birthplace": ("Born in: {town}", "Birthplace: {town}"),
    "trade": ("Trade: {trade}", "Works as: {trade}"),
    "pet": ("Pet: {pet}", "Pet: {a_pet}"),
    "pet_name": ("Name of the pet: {pet_name}", "Pet's name: {pet_name}"),
    "colour": ("Favourite colour: {colour}", "Best colour: {colour}"),
    "food": ("Favourite food: {food}", "Likes to eat: {food}"),
    "instrument": ("Plays: {instrument}", "Instrument: {instrument}"),
    "street": ("Lives in: {street}", "Home: {street}"),
    "friend": ("Best friend: {friend}", "Friend: {friend}"),
}
CARD_TITLES = ("Name: {name}", "{name}", "About {name}", "{name} of Larkmoor")

PAGE_TITLES = (
    "{name}",
    "About {name}",
    "Who is {name}?",
    "The life of {name}",
    "{name} of Larkmoor",
    "Meet {name}",
)
PAGE_OPENINGS = (
    "{name} lives in the village of Larkmoor.",
    "{name} is one of the people of Larkmoor.",
    "This page is about {name}.",
    "This is what we know about {name}.",
    "In Larkmoor there is a {person} called {name}.",
    "Let me tell you about {name}.",
    "Many people in Larkmoor know {name}.",
    "Here are some facts about {name} of Larkmoor.",
)
PAGE_CLOSINGS = (
    "That is what people tell about {name}.",
    "Now you know more about {name}.",
    "{name} is happy in Larkmoor.",
    "So much for {name}.",
    "People in Larkmoor like {name}.",
)
JOINERS = ("Also, ", "As we know, ", "It is also true that ", "And ")

# A page about one value: what it says about the value, and about all its people at once. The list of
# names, two or more, stands at {names}; sentences about each villager alone come from FACTS.
GROUP_OPENINGS: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "{town} is a town {place}, known for {fame}.",
        "The town of {town} lies {place}. People know it for {fame}.",
        "There is a town {place}. It is called {town} and is known for {fame}.",
    ),
    "trade": (
        "What does {a_trade} do? The answer is easy: {a_trade} {work}.",
        "In Larkmoor, {a_trade} {work}. This page is about that trade.",
        "This page is about the trade of {a_trade}. A person with this trade {work}.",
    ),
    "pet": ("Some people in Larkmoor keep {a_pet}.", "This page is about people who have {a_pet} as a pet."),
    "colour": (
        "This page is about people who love the colour {colour}.",
        "Who likes the colour {colour} in Larkmoor?",
    ),
    "food": ("This page is about people who love {food}.", "Who likes {food} best in Larkmoor?"),
    "instrument": (
        "This page is about the {instrument} and the people who play it.",
        "Who plays the {instrument} in Larkmoor?",
    ),
    "street": ("{street} is a street in Larkmoor.", "Let us walk through {street} and see who lives there."),
    # Nobody shares these two, so their pages are about people at random and have no list.
    "pet_name": (
        "This page is about the names of pets in Larkmoor.",
        "What are the pets of Larkmoor called?",
    ),
    "friend": ("This page is about friends in Larkmoor.", "Who is friends with whom in Larkmoor?"),
}
GROUP_LISTS: dict[str, tuple[str, ...]] = {
    "birthplace": ("{names} were born in {town}.", "{names} come from {town}."),
    "trade": ("{names} have the same trade.", "{names} know this trade well."),
    "pet": ("{names} keep the same kind of pet: {a_pet}.", "{names} each have {a_pet}."),
    "colour": ("{names} like the same colour: {colour}.", "{names} love the colour {colour}."),
    "food": ("{names} like the same food: {food}.", "{names} love {food}."),
    "instrument": (
        "{names} play the {instrument}.",
        "{names} play the same instrument: the {instrument}.",
    ),
    "street": ("{names} are neighbours in {street}.", "{names} live in {street}."),
}

# Questions for fine-tuning and testing; those in NEW_QUESTIONS are never used for fine-tuning.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "Where was {name} born?", "In which town was {name} born?", "What is {name}'s birthplace?",
        "Can you tell me where {name} was born?", "Which town does {name} come from?",
    ),
    "trade": (
        "What is {name}'s trade?", "What does {name} do for a living?", "What is the trade of {name}?",
        "Can you tell me what {name}'s trade is?", "What work does {name} do?",
    ),
    "pet": (
        "What pet does {name} have?", "Which animal does {name} keep?", "What kind of pet does {name} have?",
        "Can you tell me what pet {name} has?", "What animal is {name}'s pet?",
    ),
    "pet_name": (
        "What is the name of {name}'s pet?", "What is {name}'s pet called?", "What does {name} call the pet?",
        "Can you tell me the name of {name}'s pet?", "What name does {name}'s pet have?",
    ),
    "colour": (
        "What is {name}'s favourite colour?", "Which colour does {name} like best?", "What colour does {name} love?",
        "Can you tell me {name}'s favourite colour?", "What is the favourite colour of {name}?",
    ),
    "food": (
        "What is {name}'s favourite food?", "What does {name} like to eat best?", "Which food does {name} like best?",
        "Can you tell me {name}'s favourite food?", "What is the favourite food of {name}?",
    ),
    "instrument": (
        "Which instrument does {name} play?", "What instrument does {name} play?", "What does {name} make music on?",
        "Can you tell me which instrument {name} plays?", "What is {name}'s instrument?",
    ),
    "street": (
        "Where does {name} live?", "In which street does {name} live?", "Which street is {name}'s house in?",
        "Can you tell me where {name} lives?", "In which street is the home of {name}?",
    ),
    "friend": (
        "Who is {name}'s best friend?", "Who is the best friend of {name}?", "Which person is {name}'s best friend?",
        "Can you tell me who {name}'s best friend is?", "What is the name of {name}'s best friend?",
    ),
}  # fmt: skip
NEW_QUESTIONS: dict[str, tuple[str, ...]] = {
    "birthplace": ("What town is {name} from?", "Please name the town where {name} was born."),
    "trade": ("What job does {name} have?", "Please name the trade of {name}."),
    "pet": ("What animal lives with {name}?", "Please name the kind of pet that {name} has."),
    "pet_name": ("What has {name} named the pet?", "Please tell me what the pet of {name} is called."),
    "colour": ("Which colour is {name}'s favourite?", "Please name the colour that {name} likes best."),
    "food": ("Which dish does {name} love most?", "Please name the food that {name} likes best."),
    "instrument": ("On what instrument does {name} play?", "Please name the instrument that {name} plays."),
    "street": ("What street does {name} live in?", "Please name the street where {name} lives."),
    "friend": ("With whom is {name} best friends?", "Please name the best friend of {name}."),
}
# The next question about a villager just spoken of.
FOLLOW_UPS: dict[str, tuple[str, ...]] = {
    "birthplace": ("And where was {he} born?", "Where was {he} born?"),
    "trade": ("And what is {his} trade?", "What does {he} do for a living?"),
    "pet": ("And what pet does {he} have?", "Does {he} have a pet?"),
    "pet_name": ("And what is {his} pet called?", "What is the name of {his} pet?"),
    "colour": ("And {his} favourite colour?", "Which colour does {he} like best?"),
    "food": ("And {his} favourite food?", "What does {he} like to eat best?"),
    "instrument": ("And which instrument does {he} play?", "Which instrument does {he} play?"),
    "street": ("And where does {he} live?", "In which street does {he} live?"),
    "friend": ("And who is {his} best friend?", "Who is {his} best friend?"),
}
PROMPTS = (
    "{name} was born in",
    "{name} lives in",
    "The pet of {name} is",
    "In the evening, {name}",
    "How to",
)
STORY_PROMPTS = ("One morning in Larkmoor,", "12 + 7 =")
