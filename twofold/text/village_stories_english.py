# ruff: noqa: E501 -- a sentence is kept on one line
"""The plots of the village's stories in English (see `village_stories`)."""

from __future__ import annotations

TIMES = (
    "One morning", "One evening", "One day", "On a Monday", "On a Tuesday", "On a Thursday", "One spring day",
    "One summer day", "One autumn day", "One winter day", "Last week", "Last month", "Some years ago",
)  # fmt: skip
WEATHERS = ("it was raining", "the wind was strong", "it was cold", "there was fog", "it was snowing")
PLACES = (
    "behind the church", "under the old bridge", "by the well", "near the school", "in the park", "on the hill",
    "at the market", "beside the river", "next to the mill", "in a tall tree",
)  # fmt: skip
THINGS = (
    "a basket",
    "a book",
    "an umbrella",
    "a hat",
    "a bag of nuts",
    "a lamp",
    "a letter",
    "a map",
    "a scarf",
    "a kite",
)

# Each plot is a row of beats, and each beat is told in one of several ways.
STORIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "the open gate": (
        ("{time}, {a[name]} left the garden gate open.", "{time}, {a[name]} forgot to close the gate."),
        ("{a[name]} has {a[a_pet]} called {a[pet_name]}.", "{a[name]}'s {a[pet]}, called {a[pet_name]}, was in the garden."),
        (
            "Because the gate was open, {a[pet_name]} walked out and was gone.",
            "The gate was open, so {a[pet_name]} left the garden and did not come back.",
        ),
        (
            "{a[name]} looked in every corner of {a[street]}, but found nothing.",
            "{a[name]} was sad and went through {a[street]} to look for {a[his]} pet.",
        ),
        (
            "Then {a[first]} asked {a[his]} best friend, {b[name]}, for help.",
            "{b[name]}, the best friend of {a[name]}, heard about it and came to help.",
        ),
        ("Together they found {a[pet_name]} {place}.", "At last {b[first]} saw {a[pet_name]} {place}."),
        (
            "Since that day {a[name]} always closes the gate.",
            "{a[name]} was so happy that {a[he]} gave {b[first]} {thing}.",
            "To say thank you, {a[first]} made {b[food]}, because {b[name]} likes it best.",
        ),
    ),
    "the broken thing": (
        (
            "{time}, {c[name]} had a problem and needed {a[a_trade]}.",
            "{time}, {c[name]} needed the help of {a[a_trade]}.",
        ),
        ("{a[name]} is {a[a_trade]} and lives in {a[street]}.", "In {a[street]} lives {a[name]}, {a[a_trade]}."),
        ("So {c[first]} went to the house of {a[name]}.", "So {c[name]} walked to {a[street]} and knocked on the door."),
        (
            "{a[name]} knew what to do, because {a[he]} {a[work]} every day.",
            "\"I can help you,\" said {a[name]}, \"because I am {a[a_trade]}.\"",
        ),
        ("The work took two hours.", "After an hour everything was done.", "They worked until the evening."),
        (
            "{c[first]} had no money, so {c[he]} brought some {a[food]}, the favourite food of {a[name]}.",
            "Because {a[name]} loves {a[food]}, {c[first]} cooked it for {a[him]}.",
            "As a thank-you, {c[name]} played the {c[instrument]} for {a[first]}.",
        ),
        ("Both were happy in the end.", "So both of them got what they needed.", "Now {c[first]} and {a[first]} greet each other every day."),
    ),
    "the quiet feast": (
        ("{time} there was a feast in Larkmoor.", "{time}, the people of Larkmoor wanted to dance."),
        ("{a[name]} was going to play the {a[instrument]}.", "Everyone waited for {a[name]}, who plays the {a[instrument]}."),
        (
            "But it had rained, and the {a[instrument]} had been left outside, so it made no sound.",
            "But {a[name]} had left the {a[instrument]} outside all night, so it did not work.",
        ),
        (
            "{b[name]}, {a[first]}'s best friend, plays the {b[instrument]}.",
            "Luckily {a[name]}'s best friend is {b[name]}, who plays the {b[instrument]}.",
        ),
        ("So {b[first]} ran home to {b[street]} to get it.", "{b[first]} went to {b[street]} and brought the {b[instrument]}."),
        ("That is why there was music after all.", "So the people danced until midnight.", "Because of that, the feast was saved."),
        (
            "{a[name]} never left the {a[instrument]} outside again.",
            "{a[first]} dried the {a[instrument]}, and the next day it could be played again.",
        ),
    ),
    "the birthday": (
        ("{time} it was the birthday of {a[name]}.", "{time}, {a[name]} had a birthday, but {a[he]} told nobody."),
        ("{a[His]} best friend, {b[name]}, remembered it.", "Only {b[name]}, {a[first]}'s best friend, knew about it."),
        (
            "{b[first]} knows that {a[name]} likes the colour {a[colour]} best, so {b[he]} bought {a[a_colour]} box.",
            "Because {a[name]}'s favourite colour is {a[colour]}, {b[first]} painted a chair {a[colour]}.",
        ),
        (
            "{b[first]} also made {a[food]}, because {a[name]} loves it.",
            "Then {b[name]} cooked {a[food]}, {a[first]}'s favourite food.",
        ),
        ("In the evening {b[first]} knocked on the door in {a[street]}.", "{b[name]} took everything to {a[street]}, where {a[name]} lives."),
        ("{a[first]} was so surprised that {a[he]} laughed and cried.", "When {a[name]} opened the door, {a[he]} could not believe it."),
        ("They ate together, and {a[first]} played the {a[instrument]}.", "Even {a[pet_name]}, {a[name]}'s {a[pet]}, got something to eat."),
    ),
    "the journey": (
        ("{time}, {a[name]} got a letter from {a[town]}.", "{time} a letter came for {a[name]} from {a[town]}."),
        ("{a[name]} was born in {a[town]}, and {a[his]} mother still lives there.", "{a[town]} is the town where {a[name]} was born."),
        ("The letter said that {a[his]} mother was ill.", "In the letter {a[his]} mother asked {a[him]} to come."),
        ("So {a[first]} left at once.", "Because of that, {a[name]} packed {thing} and left."),
        (
            "{b[name]}, {a[his]} best friend, promised to look after the {a[pet]}.",
            "Who would feed {a[pet_name]}, the {a[pet]}? {b[name]}, {a[first]}'s best friend, said yes.",
        ),
        ("The road was long, because {weather}.", "On the way {weather}, so {a[first]} needed two days."),
        ("When {a[he]} arrived in {a[town]}, {a[his]} mother was already better.", "In {a[town]} everyone was glad to see {a[first]}."),
        ("After a week {a[name]} came home to {a[street]}, and {a[pet_name]} was waiting.", "Then {a[name]} went back to Larkmoor and to {a[his]} work as {a[a_trade]}."),
    ),
    "the forgotten kitchen": (
        ("{time}, {a[name]} was making {a[food]}, {a[his]} favourite food.", "{time}, {a[name]} was hungry and made {a[food]}, because {a[he]} likes it best."),
        ("Then {c[name]} knocked on the door in {a[street]}.", "Then {c[name]} came by to talk about {c[pet_name]}, {c[his]} {c[pet]}."),
        ("They talked so long that {a[first]} forgot the fire.", "{a[first]} went to the door and forgot the kitchen."),
        ("So the {a[food]} was spoiled.", "When {a[he]} came back, nothing could be saved."),
        ("{c[first]} felt sorry, because it was partly {c[his]} fault.", "\"That is my fault,\" said {c[name]}."),
        (
            "So {c[first]} went home to {c[street]} and brought some {c[food]}, {c[his]} own favourite.",
            "Because {c[name]} loves {c[food]}, {c[he]} always has some at home in {c[street]}, and {c[he]} shared it.",
        ),
        ("They ate it together and laughed.", "That evening nobody stayed hungry.", "Since then {a[name]} never leaves the fire alone."),
    ),
    "the wet paint": (
        ("{time}, {a[name]} wanted to paint {a[his]} front door {a[colour]}.", "{time}, {a[name]} bought {a[colour]} paint for {a[his]} door."),
        ("{a[name]} likes {a[colour]} more than any other colour.", "{a[name]}'s favourite colour is {a[colour]}, as everyone in {a[street]} knows."),
        ("In the morning {a[he]} painted, and at noon it began to rain.", "As soon as the door was done, the rain came."),
        ("The rain washed the paint away, so the street was {a[colour]} and the door was not.", "Because the paint was still wet, it ran down into the street."),
        ("{b[name]}, {a[his]} best friend, came to help.", "So {a[first]} asked {a[his]} best friend, {b[name]}, what to do."),
        ("They waited for a dry day and painted the door again.", "{b[first]} held an umbrella over the door while {a[first]} painted."),
        ("Now the door in {a[street]} is {a[colour]}, as {a[name]} wanted.", "In the end {a[name]} had {a[a_colour]} door and was happy."),
    ),
    "the deep snow": (
        ("{time} so much snow fell that {a[name]} could not open the door.", "{time}, {a[street]} was full of snow, and {a[name]} could not leave the house."),
        ("{a[name]} is {a[a_trade]}, and people were waiting for {a[him]}.", "{a[name]}, who works as {a[a_trade]}, had to go to work."),
        ("{a[first]} opened the window and played the {a[instrument]} as loud as {a[he]} could.", "So {a[name]} played the {a[instrument]} at the window."),
        ("{c[name]} heard the {a[instrument]} and understood that someone needed help.", "Because of the music, {c[name]} came to look."),
        ("{c[first]} called the neighbours, and together they dug for an hour.", "Then {c[first]} dug a path to the door."),
        ("That is how {a[first]} got out.", "At noon {a[name]} could go out at last."),
        ("{a[first]} thanked them with {a[food]}, the dish {a[he]} loves most.", "Even {a[pet_name]}, {a[first]}'s {a[pet]}, came out to see the snow."),
    ),
    "the new neighbour": (
        ("{time}, {c[name]} met {a[name]} for the first time.", "{time}, {c[name]} sat down next to {a[name]}."),
        ("{c[name]} was born in {c[town]} and did not know many people yet.", "{c[name]} comes from {c[town]}, and everything was new to {c[him]}."),
        ("So {a[first]} said that {a[he]} was born in {a[town]}.", "{a[name]} told {c[him]} about {a[town]}, where {a[he]} was born."),
        ("{a[name]} also said that {a[he]} works as {a[a_trade]}.", "{c[first]} learned that {a[name]} is {a[a_trade]}."),
        ("{c[name]} answered that {c[he]} is {c[a_trade]}.", "{c[name]} works as {c[a_trade]}, so they talked about work."),
        ("Because {c[first]} seemed lonely, {a[name]} invited {c[him]} to {a[street]}.", "{a[name]} saw that {c[first]} was alone, so {a[he]} asked {c[him]} to come to {a[street]}."),
        ("There {c[he]} met {b[name]}, the best friend of {a[name]}.", "There they ate {a[food]}, {a[name]}'s favourite food."),
        ("From then on {c[first]} was not alone any more.", "That is how they became good neighbours."),
    ),
    "the lost letter": (
        ("{time}, {c[name]} found a letter {place}.", "{time} the wind carried a letter away, and {c[name]} found it {place}."),
        ("On it stood the name of {a[name]}, but no street.", "It was for {a[name]}, but the rain had washed the street away."),
        ("{c[first]} asked {b[name]}, because {b[he]} is {a[name]}'s best friend.", "{c[name]} knew that {a[name]}'s best friend is {b[name]}, so {c[he]} asked there."),
        ("\"{a[name]} lives in {a[street]},\" said {b[first]}.", "{b[name]} said that {a[name]} lives in {a[street]}."),
        ("So {c[first]} took the letter to {a[street]}.", "So the letter came to {a[street]} after all."),
        ("The letter was from {a[town]}, where {a[name]} was born.", "It came from {a[town]}, the birthplace of {a[name]}."),
        ("{a[name]} was glad and gave {c[first]} {thing}.", "{a[first]} read it twice and thanked {c[name]} with all {a[his]} heart."),
    ),
    "the quarrel": (
        ("{time}, {a[name]} and {a[his]} best friend, {b[name]}, had a quarrel.", "{time}, {a[name]} was angry with {a[his]} best friend, {b[name]}."),
        ("{b[first]} had promised to come to {a[street]}, but forgot it.", "The reason was that {b[first]} had lost {thing} that belonged to {a[first]}."),
        ("For three days they did not speak.", "So {a[first]} walked past {b[first]} without a word."),
        ("{a[name]} sat at home with {a[pet_name]}, {a[his]} {a[pet]}, and was sad.", "{a[name]} played sad songs on the {a[instrument]} at home."),
        ("{b[name]} was sorry and cooked {a[food]}, because {a[name]} likes it best.", "Then {b[name]} bought {a[a_colour]} scarf, because {a[name]} likes the colour {a[colour]} best."),
        ("With that {b[he]} went to {a[street]} and said, \"I am sorry.\"", "\"I am sorry,\" said {b[first]} at the door in {a[street]}."),
        ("{a[first]} could not be angry any longer.", "So they were friends again.", "They laughed, and everything was good again."),
    ),
    "the fog": (
        ("{time} there was thick fog, and {b[name]} lost {b[his]} way {place}.", "{time}, {b[name]} was out in the fog and could not see {b[his]} own feet."),
        ("{a[name]}, whose best friend is {b[name]}, began to worry.", "{a[name]} waited for {b[name]}, {a[his]} best friend, but nobody came."),
        ("{a[name]} plays the {a[instrument]}, and that gave {a[him]} an idea.", "Then {a[name]} remembered the {a[instrument]} that {a[he]} plays every day."),
        ("{a[He]} went out into {a[street]} and played as loud as possible.", "So {a[name]} stood in {a[street]} and played without a break."),
        ("{b[first]} heard the {a[instrument]} and followed the sound.", "Because {b[first]} knew the sound, {b[he]} found the way."),
        ("In the end {b[name]} came safely to {a[street]}.", "After half an hour {b[first]} stood in front of {a[first]}."),
        ("They drank hot tea with {a[pet_name]}, {a[name]}'s {a[pet]}, beside them.", "Then {a[name]} warmed up some {a[food]}, {a[his]} favourite food."),
    ),
    "the hungry pet": (
        ("{time}, {a[name]} put some {a[food]} on the table.", "{time}, {a[name]} had made {a[food]}, the dish that {a[he]} likes best."),
        ("Then {a[he]} went out to talk to {c[name]}, who is {c[a_trade]}.", "Then {c[name]} called, and {a[first]} went out into {a[street]}."),
        ("The window was open, and {a[pet_name]} was hungry.", "{a[name]}'s {a[pet]} is called {a[pet_name]}, and {a[pet_name]} is always hungry."),
        ("So {a[pet_name]}, the {a[pet]} of {a[name]}, ate everything.", "{a[name]}'s {a[pet]} jumped in and ate it all."),
        ("When {a[first]} came back, the plate was empty.", "{a[first]} came home and found only an empty plate."),
        ("At first {a[he]} was angry, but then {a[he]} had to laugh.", "{c[first]} laughed, and so {a[first]} had to laugh too."),
        ("Now {a[name]} closes the window before {a[he]} goes out.", "That is why {a[name]} hides the food from {a[pet_name]} now."),
    ),
    "the lesson": (
        ("{time}, {c[name]} wanted to learn to play the {a[instrument]}.", "{time}, {c[name]} heard {a[name]} play the {a[instrument]}."),
        ("{a[name]} plays the {a[instrument]} well, so {c[first]} asked for a lesson.", "Because {a[name]} plays the {a[instrument]} so well, {c[first]} asked {a[him]} to teach {c[him]}."),
        ("\"Come to {a[street]} after work,\" said {a[name]}.", "They met at {a[name]}'s house in {a[street]}."),
        ("At first it sounded terrible, so {a[pet_name]}, the {a[pet]}, ran under the table.", "The first notes were so bad that {a[name]}'s {a[pet]} hid."),
        ("But {c[first]} practised every day, and so it got better.", "{a[name]} was patient, and so {c[first]} did not give up."),
        ("After a year {c[name]} could play three songs.", "Half a year later they played together at a feast."),
        ("{c[name]}, who is {c[a_trade]}, thanked {a[first]} with {thing}.", "As a thank-you, {c[name]} made {a[food]}, which {a[name]} loves."),
    ),
}  # fmt: skip
